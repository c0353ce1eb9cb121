"""Every limit and time-out of the protocol, one sentence each.

Spec: specs/parameters.md holds the same table; a test compares them.
"""

from typing import Final

ENVELOPE_BYTES_MAX: Final = 128 * 1024
"""No message of any kind is larger than this."""
GOSSIP_BYTES_MAX: Final = 2_000
"""No envelope in a gossip message is larger than this."""
CLOCK_SKEW_MS: Final = 60_000
"""An announcement issued further than this from our clock is stale."""

RECORD_TTL_MS: Final = 3_600_000
"""A capability record expires after this, unless its node refreshes it."""
RECORD_TTL_MS_MAX: Final = RECORD_TTL_MS
"""No record may claim a longer life."""
RECORD_REFRESH_MS: Final = 300_000
"""A node announces its capability record again this often."""
GREETING_MS: Final = 15_000
"""A node tries for this long to send its capability record to a newly connected peer."""
RECORDS_MAX: Final = 20_000
"""The directory keeps this many records; it evicts from the source with the most."""
RECORD_FRESH_MS: Final = 2 * RECORD_REFRESH_MS
"""A record received within this time is not evicted for a newcomer of its own source."""
PROTECTED_MAX: Final = 6_000
"""The directory protects the records of this many known or connected peers."""

PEERS_WAIT_MS: Final = 10_000
"""A job for which no provider is known waits this long before its call."""
AUCTIONS_MAX: Final = 8
"""A requester has at most this many auctions open for bids at a time."""
BUSY_MS_MIN: Final = 1_000
"""Jobs that nobody has capacity for call again after this; the pause doubles each time ..."""
BUSY_MS_MAX: Final = 30_000
"""... up to this."""
STARVING_MS: Final = 60_000
"""No later job takes capacity before one that has waited this long for busy nodes."""
PRIORITY_MS: Final = 10 * 60_000
"""Each step of priority counts as this much waiting."""
HINTS_MAX: Final = 64
"""A provider remembers this many calls that it refused as busy, to tell when it has capacity."""
HINTED_MAX: Final = 4
"""It tells at most this many requesters each time that capacity is released."""
OTHERS_WAIT_MS: Final = 60_000
"""A job that every suitable known node has failed waits this long for another one."""
COMMIT_MS: Final = 1_200
"""How long providers may commit to bids, unless all expected ones have answered."""
REVEAL_MS: Final = 900
"""How long providers may open their bids, unless all are open."""
WINDOW_MS_MAX: Final = 5_000
"""No window of a call may be longer."""
WIDE_MS: Final = 24 * 3_600_000
"""Windows that were widened for slow answers are as usual again after this: a provider whose bid
came too late counts an abort, and some in a day are too many."""
SILENT_MS: Final = 10 * 60_000
"""A peer that left a call unanswered is not waited for in this time, unless it is punctual."""
BIDS_MAX: Final = 64
"""An auction takes this many commitments; if more arrive, standing and a lot choose."""
BIDDERS_WANTED: Final = 32
"""A call to many nodes draws lots, so that about this many answer."""
INVITED_MAX: Final = 32
"""A call invites at most this many providers by name."""
SLOTS_MAX: Final = 64
"""An auction sells at most this many slots."""
SETTERS_MAX: Final = 8
"""At most this many bids prove the price of an award."""
SET_MAX: Final = 4_096
"""No envelope of a CommitSet has more bytes than this."""
OUTCOME_MAX: Final = 6_000
"""No envelope of an Outcome has more bytes than this."""
ABORT_MS: Final = 3_600_000
"""A provider asks a requester for more for this long after an auction without an outcome ..."""
ABORT_PERCENT: Final = 10
"""... by this much, up to its list price."""
ABORTS_MAX: Final = 3
"""A provider refuses a requester with so many of these hours ..."""
ABORTS_MS: Final = 24 * 3_600_000
"""... in this time."""
PROOF_BYTES_MAX: Final = 20_000
"""A fraud proof has at most this many bytes ..."""
PROOFS_MAX: Final = 256
"""... and a node keeps the newest of this number."""
BARRED_MS: Final = 24 * 3_600_000
"""A provider refuses a requester whose fraud it can prove for this long."""
WEIGHT_MAX: Final = 4_000_000
"""No bid is weighed by a larger factor, in millionths."""
SHIFT_CAP: Final = 0
"""The most ranks by which unopened commitments may raise the price, in our own calls."""
ACCEPT_MS: Final = 1_500
"""How long a winner may take to accept its award before the next bid is awarded."""
HOLD_MS: Final = 15_000
"""How long a revealed bid is binding: enough for FALLBACKS_MAX winners that do not answer."""
REUSE_MS: Final = 10 * 60_000
"""How long a sold slot may carry further equal jobs before a new auction."""
REUSE_MS_MAX: Final = 3_600_000
"""No call may ask for a longer time."""
SHORT_MS: Final = 5_000
"""A slot whose jobs take no longer is awarded to the next one while one still runs."""
SUCCESSOR_MS: Final = 20_000
"""How long a job that was started waits at its provider for the one before it on its slot."""
HELD_MS: Final = 6_000
"""How long capacity is held for an award that the requester does not confirm."""
GANG_HOLD_MS: Final = HELD_MS - ACCEPT_MS
"""How long a member of a gang whose award is accepted waits for the others."""
MEASURE_MS: Final = 6_000
"""How long the providers of a gang may take to measure the round trips between them."""
MEASURING_MS: Final = MEASURE_MS + 2 * ACCEPT_MS
"""How long capacity is held for a gang whose providers measure, from the query on."""
MEASURED_MS: Final = 60_000
"""A provider does not measure a round trip again within this time."""
ROUND_TRIP_US_MAX: Final = 60_000_000
"""No limit of a round trip is longer."""
DISTANCE_MS: Final = 10 * 60_000
"""A requester remembers for this long what two providers measured for a gang ..."""
DISTANCES_MAX: Final = 4_096
"""... and the newest of so many pairs."""
ACTIVE_MS: Final = 2_500
"""How long a provider may take to answer the confirmation of its lease."""
FALLBACKS_MAX: Final = 8
"""An auction makes at most this many awards, one after another."""
STRIKE_HALF_LIFE_MS: Final = 10 * 60_000
"""A bidder's strikes halve after each of these."""
JOBS_HALF_LIFE_MS: Final = 30 * 24 * 3_600_000
"""A provider's successes and failures halve after each of these without a job of ours."""
STRANGERS_BELIEVED: Final = 4
"""A job that so many strangers could not prepare or start ends; two, if one has served us."""
DOUBTED_BIDS_MAX: Final = 2
"""So many strangers, by lot, may bid for a job that another stranger could not start."""
STANDINGS_MAX: Final = 4_096
"""A node remembers this many settled peers, and this many others."""
CALLS_BURST: Final = 120
"""A requester may send this many calls at once ..."""
CALLS_PER_MINUTE: Final = 120
"""... and this many a minute in the long run, before a provider ignores them."""
ALL_CALLS_BURST: Final = 1_200
"""All requesters together may send this many calls at once, strangers half of that ..."""
ALL_CALLS_PER_MINUTE: Final = 1_200
"""... and this many a minute in the long run."""
AUDIT_PERCENT: Final = 25
"""A bidder shows so many of its sets to another one, unless its owner sets another share."""
CHECKS_BURST: Final = 60
"""A bidder shows its sets to others so many times at once ..."""
CHECKS_PER_MINUTE: Final = 60
"""... and this many a minute in the long run."""
BIDDINGS_MAX: Final = 1_024
"""A provider takes part in this many auctions at a time."""

DEPLOY_WAIT_MS: Final = 8_000
"""An active lease ends if its requester sends no job in this time."""
PREPARE_MS: Final = 30 * 60_000
"""Image and inputs must arrive at the provider in this time."""
STALL_MS: Final = 60_000
"""A preparation that receives nothing in this time ends."""
START_MS_MAX: Final = PREPARE_MS
"""No provider promises a later start."""
START_PERCENT_MAX: Final = 1_000
"""The most that a minute to the promised start makes a bid dearer, in percent."""
UNPAID_MS_MAX: Final = 10 * 60_000
"""A requester that owes more usage and reserved time than this beyond its credit gets none ..."""
UNPAID_HALF_LIFE_MS: Final = 3_600_000
"""... until it decays: half after each of these; a settled receipt takes its usage off."""
RECEIPT_UNPAID_MS: Final = 5_000
"""A receipt that the requester has not signed counts at least this much: its outputs are kept."""
CREDIT_MS_MAX: Final = 8 * 3_600_000
"""A requester may owe a quarter of the usage that it has paid for, at most this much, without
drawing on the common budget."""
STRANGERS_UNPAID_MS_MAX: Final = 3_600_000
"""All requesters together may owe this much beyond their own credit, those of one source a quarter
of it; a tenth of what the provider was paid for is added."""
START_WAIT_MS: Final = 8_000
"""A prepared execution ends if its requester does not start it in this time."""
GANG_WAIT_MS: Final = 5 * 60_000
"""The same for a member of a gang: the others may still fetch image and inputs."""
STARTED_MS: Final = 30_000
"""The container must run within this time after the start message."""
HEARTBEAT_MS: Final = 5_000
"""A provider reports on a lease this often."""
SUSPECT_MS: Final = 12_000
"""A provider that was silent this long is asked, over a new connection, whether it is there."""
CONFIRM_MS: Final = 4_500
"""A provider that is asked so, or whose last connection is closed, must answer in this time, or it
is lost and its lease is fenced."""
SILENCE_MS: Final = 30_000
"""After a restart, a requester waits this long for a sign of life before it asks."""
LEASE_ABSENCE_MS: Final = 40 * 60_000
"""A lease outlives an absence of its requester of this length."""
RECONCILE_MS: Final = 30_000
"""The two sides compare the leases that they share this often, a quarter more or less by chance."""
LEASES_LISTED_MAX: Final = 64
"""A message lists the states of at most this many leases."""
OVERRUN_MS: Final = 10 * 60_000
"""A job may end this long after its time limit: starting, stopping and packing take time."""
CHECKPOINT_MS_MIN: Final = HEARTBEAT_MS
"""No job's checkpoint is taken more often than this ..."""
CHECKPOINT_MS_MAX: Final = 24 * 3_600_000
"""... or less often than this."""
CHECKPOINTS_MORE_MAX: Final = 8
"""A provider may announce this many checkpoints beyond one each CHECKPOINT_MS_MIN."""
NOTICE_MS: Final = 30_000
"""A job with a checkpoint is told this long before its provider stops, unless the owner sets
another time ..."""
NOTICE_MS_MAX: Final = 300_000
"""... up to this."""
VOUCHER_MS: Final = 10_000
"""A requester pays in steps of this much usage."""
EXPOSURE_MS: Final = 35_000
"""A provider runs a container for at most this much usage beyond its vouchers ..."""
EXPOSURE_MORE_MS_MAX: Final = 10 * 60_000
"""... and a sixteenth of the usage that they cover, at most this."""
HOLD_BACK_MS: Final = 5_000
"""Until a job has ended, a requester pays for this much less than its usage ..."""
HOLD_BACK_MORE_MS_MAX: Final = 450_000
"""... and for a twentieth less, at most this."""
STOP_MS: Final = 20_000
"""A container must stop within this time, or the sandbox has failed."""
RETURN_MS: Final = 30 * 60_000
"""The requester must have fetched the outputs in this time."""
RETAIN_MS: Final = 24 * 3_600_000
"""A provider keeps outputs, and waits for the countersigned receipt, this long."""
RELEASE_MS: Final = STOP_MS + 10_000
"""A requester that released a lease waits this long for the bill: stopping takes time, and so
does the message."""
MESSAGE_MS: Final = 60_000
"""A message that must arrive is retried for this long ..."""
SETTLEMENT_MS: Final = RETAIN_MS
"""... and one that concerns money for this long."""
QUERY_BYTES_MAX: Final = 256
"""A query for offers has at most this many bytes ..."""
QUERY_DEPTH_MAX: Final = 8
"""... and so many parentheses and negations in each other."""
