// Checks of MQTT.js against the broker on a port: node mqttjs.mjs MODULE_DIRECTORY PORT [ONLY]
// Prints `ok NAME` or `FAIL NAME: why` a line, as integration/meet wants it.
import { createRequire } from "node:module"
import { join } from "node:path"

const [modules, port, only = ""] = process.argv.slice(2)
const mqtt = createRequire(join(modules, "package.json"))("mqtt")

const VERSIONS = {
  v31: { protocolId: "MQIsdp", protocolVersion: 3 },
  v311: { protocolVersion: 4 },
  v5: { protocolVersion: 5 },
}
const PATIENCE_MS = 15_000
const PAYLOADS = {
  large: Buffer.alloc(1024 * 1024, Buffer.from(Array.from({ length: 256 }, (_, byte) => byte))),
  tiny: Buffer.from("x"),
  empty: Buffer.alloc(0),
}

/** A connected client that keeps what it receives until somebody asks. */
class Client {
  static number = 0

  static async open(version, options = {}) {
    const client = new Client()
    client.connection = mqtt.connect({
      host: "127.0.0.1",
      port: Number(port),
      clientId: `mqttjs-${++Client.number}`,
      reconnectPeriod: 0,
      ...VERSIONS[version],
      ...options,
    })
    client.waiting = []
    client.messages = []
    client.connection.on("message", (topic, payload, packet) => {
      client.messages.push({ topic, payload, qos: packet.qos, retain: packet.retain, properties: packet.properties })
      client.waiting.shift()?.()
    })
    client.connection.on("error", (error) => (client.error = error))
    client.connack = await within(once(client.connection, "connect"), "CONNACK")
    return client
  }

  async subscribe(filter, qos, options = {}) {
    const granted = await within(this.connection.subscribeAsync(filter, { qos, ...options }), "SUBACK")
    equal(granted[0]?.qos, qos, "granted QoS")
  }

  publish(topic, payload, options = {}) {
    return within(this.connection.publishAsync(topic, payload, options), `end of a QoS ${options.qos ?? 0} publish`)
  }

  async next() {
    if (this.messages.length === 0) {
      await within(new Promise((resolve) => this.waiting.push(resolve)), "message")
    }
    return this.messages.shift()
  }

  /** The network fails: no DISCONNECT. */
  vanish() {
    this.connection.stream.destroy()
  }

  close() {
    return within(this.connection.endAsync(), "end of a connection")
  }
}

function once(emitter, event) {
  return new Promise((resolve, reject) => {
    emitter.once(event, resolve)
    emitter.once("error", reject)
    emitter.once("close", () => reject(new Error(`closed while waiting for ${event}`)))
  })
}

function within(promise, what) {
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no ${what} within ${PATIENCE_MS} ms`)), PATIENCE_MS)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

function equal(got, wanted, what) {
  const [left, right] = [JSON.stringify(got), JSON.stringify(wanted)]
  if (left !== right) throw new Error(`${what}: expected ${right?.slice(0, 120)}, got ${left?.slice(0, 120)}`)
}

function sameMessage(message, topic, qos, retain, payload, what) {
  equal([message.topic, message.qos, message.retain], [topic, qos, retain], `topic, QoS and retain flag of ${what}`)
  equal(message.payload.length, payload.length, `length of ${what}`)
  if (!message.payload.equals(Buffer.from(payload))) throw new Error(`${what} is not what was published`)
}

async function check(name, run) {
  if (!name.includes(only)) return
  const opened = []
  const open = async (version, options) => {
    const client = await Client.open(version, options)
    opened.push(client)
    return client
  }
  try {
    await run(open)
    console.log(`ok ${name}`)
  } catch (error) {
    const told = opened.map((client) => client.error?.message).filter(Boolean)
    console.log(`FAIL ${name}: ${[error.message, ...told].join("; ")}`)
  } finally {
    for (const client of opened) client.connection.end(true)
  }
}

const KINDS = {
  async plain(open, version, qos, topic) {
    const [receiver, sender] = [await open(version), await open(version)]
    await receiver.subscribe(topic, qos)
    await sender.publish(topic, "hello", { qos })
    sameMessage(await receiver.next(), topic, qos, false, "hello", "the message")
    await receiver.close()
    await sender.close()
  },

  async order(open, version, qos, topic) {
    const [receiver, sender] = [await open(version), await open(version)]
    await receiver.subscribe(topic, qos)
    const numbers = Array.from({ length: 200 }, (_, number) => number)
    const sent = Promise.all(numbers.map((number) => sender.publish(topic, String(number), { qos })))
    const got = []
    for (const _ of numbers) got.push(Number((await receiver.next()).payload))
    await sent
    equal(got, numbers, "the order of two hundred messages")
  },

  async retained(open, version, qos, topic) {
    const [sender, watcher] = [await open(version), await open(version)]
    await watcher.subscribe(topic, qos) // what it has seen, a late subscriber finds
    await sender.publish(topic, "kept", { qos, retain: true })
    sameMessage(await watcher.next(), topic, qos, false, "kept", "the message when it was live")
    const late = await open(version)
    await late.subscribe(topic, qos)
    sameMessage(await late.next(), topic, qos, true, "kept", "the retained message")
    await sender.publish(topic, "", { qos, retain: true })
    sameMessage(await watcher.next(), topic, qos, false, "", "the removal")
    const later = await open(version)
    await later.subscribe(topic, qos)
    await sender.publish(topic, "live", { qos })
    sameMessage(await later.next(), topic, qos, false, "live", "the first message after the removal")
  },

  async will(open, version, qos, topic) {
    const watcher = await open(version)
    await watcher.subscribe(topic, qos)
    const polite = await open(version, { will: { topic, payload: Buffer.from("bye"), qos, retain: false } })
    await polite.close() // says DISCONNECT, so its Will is not published
    const mortal = await open(version, { will: { topic, payload: Buffer.from("gone"), qos, retain: false } })
    mortal.vanish()
    sameMessage(await watcher.next(), topic, qos, false, "gone", "the Will")
  },

  async shared(open, version, qos, topic) {
    const members = [await open(version), await open(version), await open(version)]
    const sender = await open(version)
    const total = 60
    const got = []
    let complete
    const all = new Promise((resolve) => (complete = resolve))
    const counts = members.map(() => 0)
    members.forEach((member, index) =>
      member.connection.on("message", (_topic, payload) => {
        counts[index] += 1
        if (got.push(Number(payload)) === total) complete()
      }),
    )
    for (const member of members) await member.subscribe(`$share/group/${topic}`, qos)
    for (let number = 0; number < total; number++) await sender.publish(topic, String(number), { qos })
    await within(all, "whole set of messages to the group")
    const wanted = Array.from({ length: total }, (_, number) => number)
    equal(got.toSorted?.((a, b) => a - b) ?? [...got].sort((a, b) => a - b), wanted, "what the group got")
    if (counts.includes(0)) throw new Error(`a member of three got nothing: ${counts}`)
  },
}

for (const version of Object.keys(VERSIONS)) {
  for (const qos of [0, 1, 2]) {
    for (const [kind, run] of Object.entries(KINDS)) {
      const topic = `mqttjs/${version}/${qos}/${kind}`
      await check(`mqttjs ${version} qos${qos} ${kind}`, (open) => run(open, version, qos, topic))
    }
    for (const [kind, payload] of Object.entries(PAYLOADS)) {
      await check(`mqttjs ${version} qos${qos} ${kind} payload`, async (open) => {
        const topic = `mqttjs/${version}/${qos}/payload/${kind}`
        const [receiver, sender] = [await open(version), await open(version)]
        await receiver.subscribe(topic, qos)
        await sender.publish(topic, payload, { qos })
        sameMessage(await receiver.next(), topic, qos, false, payload, "the payload")
      })
    }
  }

  await check(`mqttjs ${version} a session waits for its client`, async (open) => {
    const topic = `mqttjs/${version}/waits`
    const session = {
      clientId: `mqttjs-waits-${version}`,
      clean: false,
      ...(version === "v5" ? { properties: { sessionExpiryInterval: 3600 } } : {}),
    }
    const first = await open(version, session)
    await first.subscribe(topic, 2)
    await first.close()
    const sender = await open(version)
    for (let number = 0; number < 20; number++) await sender.publish(topic, String(number), { qos: 2 })
    const again = await open(version, session)
    if (version !== "v31") equal(again.connack.sessionPresent, true, "Session Present")
    const got = []
    for (let number = 0; number < 20; number++) got.push(Number((await again.next()).payload))
    equal(got, Array.from({ length: 20 }, (_, number) => number), "the messages")
    await again.close()
    await (await open(version, { clientId: session.clientId })).close() // a Clean Start ends the Session
  })
}

await check("mqttjs v5 properties", async (open) => {
  const [receiver, sender] = [await open("v5"), await open("v5")]
  const properties = {
    payloadFormatIndicator: true,
    contentType: "application/json",
    responseTopic: "mqttjs/answers",
    correlationData: Buffer.from([0, 1, 255]),
    userProperties: { a: ["1", "2"], b: "3" },
  }
  await receiver.subscribe("mqttjs/properties", 2, { properties: { subscriptionIdentifier: 5 } })
  await sender.publish("mqttjs/properties", "{}", { qos: 2, properties })
  const got = { ...(await receiver.next()).properties }
  equal(got.subscriptionIdentifier, 5, "Subscription Identifier")
  for (const name of Object.keys(properties)) equal(got[name], properties[name], name)
})

await check("mqttjs v5 aliases both ways", async (open) => {
  const receiver = await open("v5", { properties: { topicAliasMaximum: 10 } })
  const sender = await open("v5", { autoAssignTopicAlias: true })
  await receiver.subscribe("mqttjs/alias/#", 1)
  const topics = Array.from({ length: 30 }, (_, number) => `mqttjs/alias/${number % 3}`)
  for (const topic of topics) await sender.publish(topic, "x", { qos: 1 })
  for (const topic of topics) equal((await receiver.next()).topic, topic, "topic")
})

await check("mqttjs 1,000 clients", async (open) => {
  const topic = (index) => `mqttjs/crowd/${index}`
  const clients = []
  const indices = Array.from({ length: 1000 }, (_, index) => index)
  const versions = Object.keys(VERSIONS)
  for (let start = 0; start < indices.length; start += 100) {
    clients.push(...(await Promise.all(indices.slice(start, start + 100).map((index) => open(versions[index % 3])))))
  }
  await Promise.all(clients.map((client, index) => client.subscribe(topic(index), index % 3)))
  await Promise.all(
    clients.map((client, index) => client.publish(topic((index + 1) % 1000), String(index), { qos: index % 3 })),
  )
  const got = await Promise.all(clients.map((client) => client.next()))
  got.forEach((message, index) => equal(Number(message.payload), (index + 999) % 1000, `sender for client ${index}`))
})

process.exit(0)
