"""The docker-job agent: run one attempt of one job on one instance, then end the instance.

It is the only program of docker-job on an instance, and the same for every compute adapter. Its
protocol with the API is docs/agent-protocol.md; how it is started, and which files it leaves, is
agent/README.md. The flow, with the module of each step:

1. lock the instance directory, then arm the maximum lifetime, before anything that could hang
   (`run`, `instance_dir`, `lifetime`);
2. claim the attempt: the answer is the job, or "wait" while an earlier container may still run
   (`claim`, `job`);
3. pull the image and run the container, while threads send reports and watch for a Spot
   interruption notice (`docker_container`, `pull`, `reporter`, `notices`); what it prints becomes
   lines (`children`, `lines`, `redraw`), which wait for a report in memory or on the disk (`logs`,
   `line_queue`, `spool`); what is created follows from job, image and machine (`container_spec`,
   `image`, `machine`, `oom`); errors of a pull are judged by who said them (`pull_failures`);
   registries at refused addresses are not asked (`registry_addresses`);
   on an engine that jobs share, in a network of its own (`network`), and with room for its image
   (`images`);
4. stop the container if there is a cause: attempt over, time limit, interruption, SIGTERM
   (`attempt`, `situation`, `grace`);
5. send the last log lines, then the final callback until it is answered; end the process or power
   the machine off (`decisions`, `lifetime`).

The main thread takes every decision; the other threads only observe and record (`situation`). The
package needs the standard library of Python 3.9 or newer, and nothing else, and is built into one
file (`agent.build`) that an instance fetches and checks by its hash. That is also why imports
within it are relative.
"""
