"""The dashboard: pages for people, made on the server from what any client could ask."""
