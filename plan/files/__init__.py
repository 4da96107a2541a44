"""Read plan files with the place of every value, write them, and describe them for editors."""
