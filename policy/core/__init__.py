"""What all of a policy's parts use: components by name, devices, threads, files."""
