"""How fast bench is beside other programs: the same work by each side, a process each, in alternating turns."""
