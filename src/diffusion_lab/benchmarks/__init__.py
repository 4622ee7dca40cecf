"""How fast it is: each figure beside a bare loop, a ceiling of the machine, or another program."""
