"""What a request means: checks, routes, commands, sessions, event streams. No sockets, no framework; transports call it."""
