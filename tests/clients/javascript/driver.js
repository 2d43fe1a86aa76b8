// Does with a JavaScript client what javascript_clients.py asks for: a line of JSON in, one out.
//
//   node driver.js DIRECTORY     whose node_modules has the packages of package.json

'use strict'

const {createRequire} = require('node:module')
const path = require('node:path')
const readline = require('node:readline')

const load = createRequire(path.join(process.argv[2], 'package.json'))
const v2 = load('@influxdata/influxdb-client')
const v3 = load('@influxdata/influxdb3-client')

// What they log is told to whoever asked, as an answer.
for (const {setLogger} of [v2, v3]) setLogger({error() {}, warn() {}})

// The client of InfluxDB 2 sends again what was answered 429 and above. It reads `Retry-After` as
// milliseconds: with its own 5 attempts it gives up within a second.
const RETRY = {maxRetries: 1000, maxRetryDelay: 1000, minRetryDelay: 100, retryJitter: 50}

class InfluxDB2 {
  connect({url, database, token}) {
    this.api = new v2.InfluxDB({url, token: token ?? ''})
    this.database = database
  }

  async start() {}

  point(row) {
    const point = new v2.Point(row.measurement).timestamp(row.time_ns)
    for (const [name, value] of Object.entries(row.tags)) point.tag(name, value)
    for (const [name, [kind, value]] of Object.entries(row.fields)) {
      if (kind === 'float') point.floatField(name, value)
      if (kind === 'int') point.intField(name, value)
      if (kind === 'uint') point.uintField(name, value)
      if (kind === 'bool') point.booleanField(name, value)
      if (kind === 'str') point.stringField(name, value)
    }
    return point
  }

  // What is written goes on being sent in the background: done is when it says so.
  async write(rows) {
    let writer
    const written = new Promise((resolve, reject) => {
      const writeFailed = (error, lines, attempt) => {
        const isFinal = attempt > RETRY.maxRetries || error.canRetry?.() === false
        if (isFinal) reject(error)
      }
      const options = {...RETRY, batchSize: rows.length + 1, gzipThreshold: 100}
      Object.assign(options, {writeFailed, writeSuccess: resolve})
      writer = this.api.getWriteApi('any', this.database, 'ns', options)
      writer.writePoints(rows.map((row) => this.point(row)))
      // What it rejects with is what writeFailed is told.
      writer.flush().catch(() => {})
    })
    try {
      await written
    } finally {
      writer.dispose()
    }
  }

  async close() {}
}

class InfluxDB3 {
  constructor(options) {
    this.options = options
  }

  connect({url, database, token}) {
    const writeOptions = {precision: 'ns', gzipThreshold: 100, ...this.options}
    this.client = new v3.InfluxDBClient({host: url, token: token ?? 'any', database, writeOptions})
  }

  async start() {
    const version = await this.client.getServerVersion()
    if (!/^\d/.test(version ?? '')) throw new Error(`no version: ${version}`)
  }

  point(row) {
    const point = v3.Point.measurement(row.measurement).setTimestamp(row.time_ns)
    for (const [name, value] of Object.entries(row.tags)) point.setTag(name, value)
    for (const [name, [kind, value]] of Object.entries(row.fields)) {
      if (kind === 'float') point.setFloatField(name, value)
      if (kind === 'int') point.setIntegerField(name, value)
      if (kind === 'uint') point.setUintegerField(name, value)
      if (kind === 'bool') point.setBooleanField(name, value)
      if (kind === 'str') point.setStringField(name, value)
    }
    return point
  }

  async write(rows) {
    await this.client.write(rows.map((row) => this.point(row)))
  }

  async close() {
    await this.client.close()
  }
}

const CLIENTS = {
  'influxdb-client-js': () => new InfluxDB2(),
  'influxdb3-js': () => new InfluxDB3({}),
  'influxdb3-js, no_sync': () => new InfluxDB3({noSync: true}),
}

function told(error) {
  const status = error.statusCode
  const text = [status, error.message, error.body].filter(Boolean).join(' ')
  if (status === 401) return {unauthorised: text}
  if (status === undefined || status >= 500) return {busy: error.stack ?? text}
  return {refused: text}
}

async function main() {
  let client
  // One request at a time: their answers are in order.
  for await (const line of readline.createInterface({input: process.stdin})) {
    const request = JSON.parse(line)
    let answer = {}
    try {
      if (request.op === 'connect') {
        client = CLIENTS[request.name]()
        client.connect(request)
      } else if (request.op === 'write') {
        await client.write(request.rows)
      } else {
        await client[request.op]()
      }
    } catch (error) {
      answer = told(error)
    }
    process.stdout.write(JSON.stringify(answer) + '\n')
  }
}

main()
