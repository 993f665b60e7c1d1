"""What the commands that look into a cluster observe and show."""
