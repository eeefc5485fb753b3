"""What the trials share: where things are, servers, clients, the machine, charts."""
