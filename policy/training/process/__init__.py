"""The process that trains: its signals, random numbers and rank."""
