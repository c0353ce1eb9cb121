"""The table of a lease, as its requester sees it.

Spec: specs/lease-machines.md#requester-lease.
"""

from typing import Final

from protocol.machines.inputs import (
    CheckpointFetched,
    CheckpointLost,
    DeadlineReached,
    Isolated,
    JobCancelled,
    MembersReady,
    OutputsFetched,
    OutputsLost,
    PeerAnswered,
    PeerDisconnected,
    SlotFreed,
    StateHeard,
)
from protocol.machines.requester.lease.checkpoints import (
    hear_checkpoint,
    hear_notice,
    keep_checkpoint,
    lose_checkpoint,
)
from protocol.machines.requester.lease.machine import (
    cancel,
    cancel_unstarted,
    compare_releasing,
    count_from,
    finish,
    give_up_fetching,
    hear_preparing,
    hear_ready,
    launch,
    lose_outputs,
    pay,
    run,
    settle_crossed,
    settle_release,
    stop_waiting,
    take_release,
    take_result,
)
from protocol.machines.requester.lease.states import (
    Broken,
    Closed,
    Deploying,
    Executing,
    Fetched,
    Launching,
    Releasing,
)
from protocol.machines.requester.lease.watching import (
    compare,
    hear_answer,
    hear_launching,
    suspect,
    suspect_or_fence,
    wait_isolated,
)
from protocol.machines.table import Groups, Transitions, pairs
from protocol.wire.messages import (
    Checkpoint,
    Completed,
    Heartbeat,
    LeaseRelease,
    PreemptNotice,
    Ready,
    Released,
    Started,
)

TRANSITIONS: Final[Transitions] = {
    (Deploying, Heartbeat): hear_preparing,
    (Deploying, Ready): hear_ready,
    (Deploying, MembersReady): launch,
    (Deploying, LeaseRelease): take_release,
    (Deploying, DeadlineReached): suspect_or_fence,
    (Deploying, PeerDisconnected): suspect,
    (Deploying, PeerAnswered): hear_answer,
    (Deploying, StateHeard): compare,
    (Deploying, Isolated): wait_isolated,
    (Deploying, JobCancelled): cancel_unstarted,
    (Launching, Started): run,
    (Launching, Heartbeat): hear_launching,
    (Launching, SlotFreed): count_from,
    (Launching, Completed): take_result,
    (Launching, LeaseRelease): take_release,
    (Launching, DeadlineReached): suspect_or_fence,
    (Launching, PeerDisconnected): suspect,
    (Launching, PeerAnswered): hear_answer,
    (Launching, StateHeard): compare,
    (Launching, Isolated): wait_isolated,
    (Launching, JobCancelled): cancel,
    (Executing, Heartbeat): pay,
    (Executing, SlotFreed): count_from,
    (Executing, Checkpoint): hear_checkpoint,
    (Executing, CheckpointFetched): keep_checkpoint,
    (Executing, CheckpointLost): lose_checkpoint,
    (Executing, PreemptNotice): hear_notice,
    (Executing, Completed): take_result,
    (Executing, LeaseRelease): take_release,
    (Executing, DeadlineReached): suspect_or_fence,
    (Executing, PeerDisconnected): suspect,
    (Executing, PeerAnswered): hear_answer,
    (Executing, StateHeard): compare,
    (Executing, Isolated): wait_isolated,
    (Executing, JobCancelled): cancel,
    (Fetched, OutputsFetched): finish,
    (Fetched, OutputsLost): lose_outputs,
    (Fetched, DeadlineReached): give_up_fetching,
    (Releasing, Released): settle_release,
    (Releasing, Completed): settle_crossed,
    (Releasing, LeaseRelease): stop_waiting,
    (Releasing, StateHeard): compare_releasing,
    (Releasing, DeadlineReached): stop_waiting,
}
INPUTS: Final = (
    Heartbeat, Ready, Started, Checkpoint, PreemptNotice, Completed, LeaseRelease, Released,
    CheckpointFetched, CheckpointLost, OutputsFetched, OutputsLost,
    DeadlineReached, JobCancelled, MembersReady, PeerDisconnected, PeerAnswered, StateHeard,
    Isolated, SlotFreed,
)  # fmt: skip
IGNORED: Final[Groups] = {
    "late or repeated: the lease has moved on": (
        pairs({Launching, Executing}, {Ready})
        | pairs({Executing}, {Started})
        | pairs({Fetched}, {Heartbeat, Ready, Started, Completed})
        | pairs({Releasing}, {Heartbeat, Ready, Started})
        | pairs({Fetched, Releasing}, {Checkpoint, PreemptNotice})
        | pairs({Fetched, Releasing}, {CheckpointFetched, CheckpointLost})
    ),
    "the provider has forgotten the lease; whether its outputs can be had, the fetching says": (
        pairs({Fetched}, {LeaseRelease})
    ),
    "the message that the job runs comes late; a checkpoint is announced again": (
        pairs({Launching}, {Checkpoint, PreemptNotice})
    ),
    "the job has run": pairs({Fetched}, {JobCancelled}),
    "it has not started yet, or is over: no usage is counted": (
        pairs({Deploying, Fetched, Releasing}, {SlotFreed})
    ),
    "the job is being cancelled": pairs({Releasing}, {JobCancelled}),
    "the job has run, or is being stopped: only time and the outbox matter": (
        pairs({Fetched, Releasing}, {PeerDisconnected, PeerAnswered, Isolated})
        | pairs({Fetched}, {StateHeard})
    ),
    "the lease has ended": pairs({Closed, Broken}, INPUTS),
}
ILLEGAL: Final[Groups] = {
    "nothing runs before it is started": (
        pairs({Deploying}, {Started, Checkpoint, PreemptNotice, Completed})
    ),
    "the provider answers a release that nobody sent": (
        pairs({Deploying, Launching, Executing, Fetched}, {Released})
    ),
    "a gang starts once": pairs({Launching, Executing, Fetched, Releasing}, {MembersReady}),
    "our node fetches no outputs": (
        pairs({Deploying, Launching, Executing, Releasing}, {OutputsFetched, OutputsLost})
    ),
    "our node fetches no checkpoint": (
        pairs({Deploying, Launching}, {CheckpointFetched, CheckpointLost})
    ),
}
