"""Chaos: jobs and scans while everything around them is killed, frozen, emptied, locked and lied to.

python -m chaos [--seed N] [--seconds S] [--jobs N]        (`make chaos SEED=n`), with backend/tests on the path

plan            what happens when, from the seed alone
control_block   a clock that lies, messages run twice: what the harness tells its processes, in shared memory
process         a worker, an API or a watcher of mus that obeys its control block
tasks           small jobs that leave traces
own_broker      a Valkey that may be killed, emptied, rolled back and frozen
fleet           the processes
faults          doing harm
load            jobs and requests
music           files that come, change, move and go
verification    what must hold afterwards
run             all of it, in order
"""
