// BullMQ as its users use it: one process that adds jobs, one worker. What it does and prints is what peers_jobs.py does.
import { openSync, writeSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const { BENCH_STORE, BENCH_MARKS, BENCH_DATA, BENCH_MODULES } = process.env;
const { Queue, Worker } = createRequire(join(BENCH_MODULES, "package.json"))("bullmq");
const { hostname, port } = new URL(BENCH_STORE);
const connection = { host: hostname, port: Number(port), maxRetriesPerRequest: null };
const marks = openSync(BENCH_MARKS, "a");
const options = { removeOnComplete: true };
const [what, jobs, bulk] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];

if (what === "produce") {
  const queue = new Queue("bench", { connection });
  await queue.waitUntilReady();
  const begun = process.hrtime.bigint();
  if (bulk > 1) {
    for (let n = 0; n < Math.floor(jobs / bulk); n++) {
      await queue.addBulk(Array.from({ length: bulk }, () => ({ name: "work", data: BENCH_DATA, opts: options })));
    }
  } else {
    for (let n = 0; n < jobs; n++) await queue.add("work", BENCH_DATA, options);
  }
  writeSync(1, `${Number(process.hrtime.bigint() - begun) / 1e9}\n`);
  process.kill(process.pid, "SIGKILL");
} else {
  const work = async () => {
    const mark = Buffer.alloc(8);
    mark.writeBigInt64LE(process.hrtime.bigint());
    writeSync(marks, mark);
  };
  new Worker("bench", work, { connection, concurrency: 50 });
}
