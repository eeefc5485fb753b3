"""What kills and power cuts take: `bunqueue-trio crashtest`."""
