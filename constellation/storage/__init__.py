"""What outlives the process: the journal, the database, and the way back from them."""
