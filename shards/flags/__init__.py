"""What a command line says: how its mistakes are put."""
