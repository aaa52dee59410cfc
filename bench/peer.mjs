// node peer.mjs JOBS PLACE: print the lateness of graphile-worker for each of JOBS jobs that are due
// at one time, in milliseconds, as a JSON array. DATABASE_URL names an empty database. PLACE, from 0 to
// 1, is the share of its poll interval that has passed when they are due.
import { performance } from "node:perf_hooks";
import { Logger, makeWorkerUtils, run } from "graphile-worker";

const jobs = Number(process.argv[2]);
const place = Number(process.argv[3]);
const KNOWN_MS = 6000; // until all jobs are added and the worker is idle
const POLL_MS = 2000; // its default

// From its documentation's page on performance: https://worker.graphile.org/docs/performance
const worker = {
  connectionString: process.env.DATABASE_URL,
  concurrentJobs: 24,
  maxPoolSize: 25,
  pollInterval: POLL_MS,
  localQueue: { size: 500 },
  completeJobBatchDelay: 0,
  failJobBatchDelay: 0,
  logger: new Logger(() => () => {}),
};
const now = () => performance.timeOrigin + performance.now();

const utils = await makeWorkerUtils({ preset: { worker } });
await utils.migrate();
const due = now() + KNOWN_MS;
// It polls when it begins, and each POLL_MS from then on.
const begins = due - (1 + place) * POLL_MS;
const spec = `json_populate_recordset(null::graphile_worker.job_spec, $1::json)`;
await utils.withPgClient((client) =>
  client.query(`SELECT 1 FROM graphile_worker.add_jobs(ARRAY(SELECT x FROM ${spec} AS x))`, [
    JSON.stringify(
      Array.from({ length: jobs }, (_, number) => ({
        identifier: "due",
        payload: { number },
        run_at: new Date(due).toISOString(),
      })),
    ),
  ]),
);

if (now() > begins) throw new Error("the jobs took until the worker was to begin to add");
await new Promise((go) => setTimeout(go, begins - now()));

const late = [];
let haveAll;
const all = new Promise((resolve) => (haveAll = resolve));
const runner = await run({
  preset: { worker },
  taskList: {
    due: async () => {
      late.push(now() - due);
      if (late.length === jobs) haveAll();
    },
  },
});
await all;
await runner.stop();
await utils.release();
console.log(JSON.stringify(late));
