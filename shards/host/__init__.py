"""What depends on the machine: cores, open files, terminals, compiled code, junk files."""
