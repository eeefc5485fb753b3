"""What kills and power cuts take."""
