//! Waypost, an MQTT broker. This page is the map of the house; read it first, then the files in the order given here.
//!
//! # The house
//!
//! Each folder is one room with one purpose, and imports run only downwards: a floor knows the floors below it, and rooms
//! on one floor do not know one another. `tests/architecture.rs` holds that.
//!
//! ```text
//! 5 roof    main.rs     one line
//!           cli.rs      commands: run, check, convert, config reference, acl (cli/acl.rs), cert (cli/cert.rs), passwd
//!                       (cli/passwd.rs), store (cli/store.rs)
//!           acl.rs      opens the rule files, for the node and for commands
//!           node.rs     builds a running broker out of a Config; stops it
//!           config/     the TOML file: every key with its doc, default, unit and bounds; mosquitto/ reads a mosquitto.conf
//!           log.rs      the log that cannot stop the process
//! 4 wings   admin/      what those who watch are told: http.rs (who is answered)  metrics.rs (what is on the page)  page.rs (its form)
//! 3 doors   net/        listener.rs (accept)  admission.rs (how many)  arrival.rs (PROXY, TLS, upgrade)  connection.rs (one task,
//!                       one Network Connection)  stream.rs (socket and layers)  tls.rs  websocket.rs  proxy.rs  unix.rs
//!                       credentials.rs (certificates and keys)  certificate.rs (what a Client's says)  watch.rs (reload)
//!                       thread.rs (runs a shard)  counts.rs (what happened)
//!           login/      who is coming: chain.rs (the ways in through one listener, asked in order)  certificate.rs
//!                       password.rs  scram.rs  jwt.rs  http.rs (the ways)  key_set.rs (keys at a URL)  fetch.rs (HTTPS)
//!                       throttle.rs (who guesses)  hashing.rs
//! 2 hall    broker/     where Clients meet. shard.rs (all that one thread owns; its tick)  client.rs  connect.rs (open, resume, take
//!                       over)  publish.rs (authorize, retain, route)  subscribe.rs  share.rs (groups own their queues)
//!                       retained.rs (replays)  mail.rs (between shards)  router.rs (filter to shards)  directory.rs (Client
//!                       Identifier to home shard)  durable.rs (what must survive, which answer waits for it)  restore.rs (after a
//!                       start)  fields.rs (the form of values on disk)  flush.rs (writing)
//!                       timer.rs  rights.rs (what a Client may do, and what a reload changes)  takeover.rs (how often)  pace.rs
//!                       budget.rs  sys.rs ($SYS)
//! 1 rooms   session/    one Client's Session as a state machine: connect.rs  publish.rs (receiving)  deliver.rs (sending)
//!                       queue.rs (lanes)  allowance.rs (how long they may get)  spill.rs (where they go on)  alias.rs
//!                       in_flight.rs (sent, not settled)  log.rs (what the store has to know)  subscribe.rs
//!           topic/      data structures without policy: tree.rs (subscriptions)  cache.rs (matches)  shared.rs (groups)
//!                       retained.rs
//!           access/     who may connect, publish, subscribe, receive: rules.rs (how rules add up)  trie.rs (finds them)  ban.rs
//!                       mosquitto.rs  native.rs (their languages)  explain.rs (why)  login.rs (who is coming)
//!                       password.rs (files of users)  scram.rs (proofs)
//!           store/      what survives; knows no MQTT: batch.rs (one atomic change)  record.rs (how it lies in a file)  segment.rs
//!                       (files of the journal)  journal.rs (commits)  recovery.rs, checkpoint.rs (from there to rest)  held.rs
//!                       (what a full disk does not take)  rest.rs (as keys and values)  engine.rs (fjall)  disk.rs (files)
//!                       home.rs (the directory)  whole.rs (all of it)  queue.rs (reads one, at rest or not)
//!                       transfer.rs (as lines of JSON)  memory.rs
//! 0 ground  codec/      bytes to packets and back: one file for each exchange of the standard, then primitive.rs
//!                       properties.rs  reason_code.rs  topic.rs  message.rs (what a PUBLISH or Will carries)
//!           notice/     what may be told to the operator: strings of peers made safe, how many lines, and tallies
//!           files.rs    reads a whole file, a regular one of bounded size, without waiting
//!           faults.rs   checks that one test leaves out to see whether anybody notices; nothing without its feature
//! ```
//!
//! Floor 4, the wings, is for what stands beside the way of a PUBLISH; bridges, rules and other nodes, in-process clients of the
//! hall, will stand there too.
//!
//! Below the doors nothing awaits, nothing looks at a clock and nothing is spawned: bytes, Messages and the time go in,
//! packets and decisions come out. So the same code runs in unit tests, in the simulation and in fuzzers.
//!
//! # What happens to a PUBLISH
//!
//! 1. `net/connection.rs` reads bytes into the thread's scratch and hands them to the shard; `broker/shard.rs` finds packets in
//!    them and gives each to its Client's Session.
//! 2. `codec/publish.rs` says what a PUBLISH is on the wire and what makes it malformed. Nothing is copied yet.
//! 3. `session/publish.rs` checks Topic Alias, Packet Identifier and Receive Maximum, and makes the one copy: a
//!    [`codec::Message`], stored as it travels.
//! 4. `broker/publish.rs` asks whether it may be published, keeps it if it is to be retained, finds out who subscribes, puts
//!    it into each Session (by mail where that lives in another shard) and answers the publisher.
//! 5. `session/deliver.rs` queues it by QoS and, when the shard's tick flushes the receiver, encodes it behind a short
//!    header into the thread's output buffer: one write for all that has gathered.
//!
//! # Shards
//!
//! A node is N shards, each a thread that owns its Clients outright: no lock, no atomic and no `Send` in Session code. They
//! share three things: the router, the retained Messages and the directory. One shard is the cheapest per message; more
//! buy throughput. `node.shards` sets the number, and the default is one for each core.
//!
//! # Decisions that differ from the first plan
//!
//! - One thread accepts and hands connections to the shard that has the fewest, instead of every shard accepting with
//!   `SO_REUSEPORT`: with few Clients the kernel's hash places them badly, and there is one place that knows EMFILE.
//! - A publisher's place in the queue of fan-outs is its own: small Messages of *other* publishers do not wait behind a large
//!   fan-out, only those of the same publisher do (order).
//! - A Client with several matching subscriptions is served by the first of them instead of by marking it as seen, so
//!   direct deliveries need no state; only a fan-out, which goes on over several ticks, marks its receivers.
//! - A panic ends the process (and is logged first): a shard whose invariants are broken must not go on, and whoever
//!   supervises the broker starts it again.
//! - Letters between shards lie in one box per receiver, in the order of posting, not in one slot per sender: what is published
//!   after an acknowledgement was seen must not overtake what was acknowledged.
//! - Decisions about rights are asked again when a delivery is encoded, not stored with the subscription. A Client that may
//!   receive all it subscribes to is asked about once, at SUBSCRIBE; of others the last few decisions are remembered.
//! - TLS is rustls without its buffers rather than tokio-rustls: an idle connection then takes 3.8 KB instead of 7.4 KB.
//! - A receiver of a fan-out that would get the very same bytes as the one before is written those, without encoding.
//! - The metrics page is written out of the counters that each shard keeps for itself and lays open once per tick, without the
//!   `metrics` facade: there is nothing to look up and no atomic on the way of a PUBLISH.
//! - A QoS 2 Message whose Session is kept is written to its Client once its Packet Identifier is safe, and so are PUBREL and
//!   PUBCOMP: exactly once then holds over crashes without a guess. QoS 1 is sent at once.
//! - Which Sessions want a Message is put into the journal by the shard that they live in, and that a group wants it by the group's
//!   home; its publisher's shard waits until all shards are done with it. A QoS 2 exchange remembers which of them took the
//!   Message meanwhile (`broker/durable.rs`).
//! - Records of the journal are checked with xxh3, which is in the tree with fjall, instead of CRC-32C.
//! - Three of the guard benchmarks stay above what was aimed at, and are held where they are: a delivery of a fan-out (496
//!   instructions, aim 350), a match that no cache knows (3,420, aim 2,600) and the heap of an idle connection
//!   (aim 900 bytes). The figures stand in `benches/guards/hall.rs` and `tests/idle_connection.rs`.

pub mod access;
pub mod acl;
pub mod admin;
pub mod broker;
pub mod cli;
pub mod codec;
pub mod config;
pub mod faults;
pub mod files;
pub mod log;
pub mod login;
pub mod net;
pub mod node;
pub mod notice;
pub mod session;
pub mod store;
pub mod topic;
