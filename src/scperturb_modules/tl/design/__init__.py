"""What to measure next, whether such a plan would have worked, and how many cells it takes."""
