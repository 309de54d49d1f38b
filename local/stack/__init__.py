"""One stack: its folder, ports and credentials, its processes, and what is set up in them."""
