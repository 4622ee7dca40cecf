"""What a set of finished runs says: rankings with intervals, effects of each choice, pictures. Needs no torch."""
