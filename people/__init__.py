"""What a person is asked, how an answer is read, what is on record of it."""
