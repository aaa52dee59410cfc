"""The docker-job agent: runs one attempt of one job on one instance, and is gone.

It is the only program of ours on an instance, and the same for every compute adapter. What it and
the API say to each other is in docs/agent-protocol.md; how it is started and what it leaves behind
is in agent/README.md.

The story, top to bottom:

1. take the instance (a lock), then arm the maximum lifetime, before anything that could hang;
2. claim the attempt: the answer is the job (or "wait": the container before it may still run);
3. pull the image and run the container, while helpers report, beat and watch for the spot notice;
4. stop the container if there is a cause (attempt over, time limit, interruption, SIGTERM);
5. send the last logs, then the last word, again and again until it is heard; end, or power off.

One thread, the main one, decides everything; helper threads only observe and tell (see
`Situation`). This file is longer than our 300 lines because it must be one file: it is copied to
the instance as it is. It needs the standard library of Python 3.9 or newer, nothing else, and
imports nothing of ours.
"""
