"""How training uses the machine: threads, precision, memory."""
