"""What runs leave behind: folders, tracking, pictures."""
