// The public suite of Durable Streams; its command finds no tests when it is installed from npm.
import { runConformanceTests } from "@durable-streams/server-conformance-tests"

runConformanceTests({ baseUrl: process.env.FRESHET_URL })
