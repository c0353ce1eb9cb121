"""Performs what the core requests: one table, from the class of an effect to its performer.

Spec: specs/core.md#effects.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from node.daemon.job_log import JobLog
from node.messaging.announcer import Announcer
from node.messaging.connector import Connector
from node.messaging.measurer import Measurer
from node.messaging.outbox_sender import OutboxSender
from node.messaging.prober import Prober
from node.network.host import Network
from node.provider.bid_log import BidLog
from node.provider.executions import Executions
from node.provider.proofs import Proofs
from node.requester.results import Results
from node.service.jobs import JobService
from node.service.node import NodeService
from node.storage.journal import OutboxRow
from protocol.core.jobs import Ending, Job
from protocol.machines.effects import (
    Accuse,
    Advertise,
    Drop,
    Effect,
    Extend,
    FetchCheckpoint,
    FetchOutputs,
    FollowLog,
    KeepCheckpoint,
    Kill,
    Launch,
    Learn,
    MeasureRoundTrips,
    Note,
    Prepare,
    ProbePeer,
    Progress,
    Publish,
    Reach,
    Report,
    Save,
    Settle,
    TakeCheckpoint,
    Terminate,
)
from protocol.values.ids import LeaseId


@dataclass(frozen=True, slots=True)
class Performers:
    """The parts of a node that perform effects, or are told of them."""

    network: Network
    connector: Connector
    announcer: Announcer
    outbox_sender: OutboxSender
    prober: Prober
    measurer: Measurer
    executions: Executions
    bid_log: BidLog
    proofs: Proofs
    results: Results
    jobs: JobService
    node: NodeService


class EffectTable:
    """Dispatches each effect to the part of the node that performs it. Nothing here waits."""

    def __init__(self, performers: Performers) -> None:
        executions, results, network = performers.executions, performers.results, performers.network
        self._performers = performers
        self._log = JobLog()
        self._table: Mapping[type, Callable[[Any], None]] = {
            # These are committed already. A Send has become a row of the outbox.
            OutboxRow: performers.outbox_sender.send,
            ProbePeer: performers.prober.probe,
            MeasureRoundTrips: performers.measurer.measure,
            Save: self._saved,
            Report: self._reported,
            Settle: performers.node.settled,
            # Broadcasts, and knowledge of peers.
            Publish: performers.announcer.publish,
            Advertise: performers.announcer.advertise,
            Learn: lambda told: network.learn(told.peer, told.addresses),
            Reach: lambda wanted: performers.connector.want(wanted.peers),
            # For a job of our own.
            Progress: performers.jobs.progressed,
            FollowLog: results.follow_log,
            FetchCheckpoint: results.fetch_checkpoint,
            KeepCheckpoint: results.keep_checkpoint,
            FetchOutputs: results.fetch_outputs,
            # As a provider.
            Note: performers.bid_log.note,
            Accuse: performers.proofs.keep,
            Prepare: executions.prepare,
            Launch: self._launch,
            Extend: executions.extend,
            TakeCheckpoint: executions.take_checkpoint,
            Terminate: executions.terminate,
            Kill: executions.kill,
            Drop: executions.drop,
        }

    def perform(self, effect: Effect | OutboxRow) -> None:
        """Perform an effect, or begin it."""
        self._table[type(effect)](effect)

    def _saved(self, saved: Save) -> None:
        match saved:
            case Save("job", _, Job() as job):
                self._performers.jobs.saved(job)
                if job.ending is not Ending.OPEN:
                    self._performers.results.drop_checkpoint(job.job_id)
            case Save("requester-lease", key, None):
                self._performers.results.forget(LeaseId(key))
            case Save("provider-lease", key, state):
                self._log.saved(LeaseId(key), state)

    def _reported(self, report: Report) -> None:
        self._log.reported(report)
        self._performers.jobs.reported(report)

    def _launch(self, launch: Launch) -> None:
        self._log.launched(launch)
        self._performers.executions.launch(launch)
