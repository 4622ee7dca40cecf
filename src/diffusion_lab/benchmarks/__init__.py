"""How fast it is: each figure beside a bare loop, a ceiling of the machine, or another program.

Each part is a function of (folder, rounds, seconds, its own settings in conf/benchmark/) to Figures: it may write in
`folder`, and what it compares takes turns for `rounds` rounds of `seconds` each, where that applies.
"""
