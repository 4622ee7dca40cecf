"""What can be trained: each kind brings its training module, what it scores, draws and says at its end."""
