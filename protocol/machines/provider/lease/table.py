"""The table of a lease, as its provider sees it.

Spec: specs/lease-machines.md#provider-lease.
"""

from typing import Final

from protocol.machines.inputs import (
    CheckpointTaken,
    ContainerExited,
    ContainerExtended,
    ContainerFailed,
    ContainerStarted,
    DeadlineReached,
    FetchProgressed,
    PauseDenied,
    Prepared,
    PrepareFailed,
    RoundTripsMeasured,
    SlotFreed,
    StateHeard,
    StopRequested,
)
from protocol.machines.provider.lease.checkpoints import note_answer, note_checkpoint
from protocol.machines.provider.lease.leaving import (
    beat_leaving,
    give_notice,
    hasten,
    let_go,
    note_exit,
    note_last,
    note_last_answer,
)
from protocol.machines.provider.lease.machine import (
    activate,
    be_ready,
    beat_preparing,
    beat_waiting,
    expire,
    fail_preparing,
    give_up_settling,
    give_up_stopping,
    keep_voucher,
    measure,
    note_progress,
    prepare,
    release_unstarted,
    say_measured,
    say_stopped,
    settle,
    stop,
)
from protocol.machines.provider.lease.repairing import repeat
from protocol.machines.provider.lease.running import (
    beat_serving,
    complete,
    deny_pause,
    fail_serving,
    go_on,
    release_serving,
    say_started,
    serve,
    serve_next,
    take_over,
    take_voucher,
)
from protocol.machines.provider.lease.states import (
    Active,
    Ended,
    Held,
    Leaving,
    Preparing,
    Serving,
    Settling,
    Stopping,
    Waiting,
)
from protocol.machines.table import Groups, Transitions, pairs
from protocol.wire.messages import (
    CheckpointAck,
    Deploy,
    LeaseConfirm,
    LeaseRelease,
    Receipt,
    RoundTripQuery,
    Start,
    Voucher,
)

TRANSITIONS: Final[Transitions] = {
    (Held, RoundTripQuery): measure,
    (Held, RoundTripsMeasured): say_measured,
    (Held, LeaseConfirm): activate,
    (Held, LeaseRelease): release_unstarted,
    (Held, SlotFreed): take_over,
    (Held, StopRequested): stop,
    (Held, DeadlineReached): expire,
    (Active, Deploy): prepare,
    (Active, LeaseRelease): release_unstarted,
    (Active, SlotFreed): take_over,
    (Active, StopRequested): stop,
    (Active, DeadlineReached): expire,
    (Preparing, FetchProgressed): note_progress,
    (Preparing, Prepared): be_ready,
    (Preparing, PrepareFailed): fail_preparing,
    (Preparing, LeaseRelease): release_unstarted,
    (Preparing, SlotFreed): take_over,
    (Preparing, StopRequested): stop,
    (Preparing, DeadlineReached): beat_preparing,
    (Waiting, Start): serve,
    (Waiting, LeaseRelease): release_unstarted,
    (Waiting, SlotFreed): serve_next,
    (Waiting, StateHeard): repeat,
    (Waiting, StopRequested): stop,
    (Waiting, DeadlineReached): beat_waiting,
    (Serving, ContainerStarted): say_started,
    (Serving, ContainerExtended): go_on,
    (Serving, ContainerExited): complete,
    (Serving, ContainerFailed): fail_serving,
    (Serving, Voucher): take_voucher,
    (Serving, CheckpointTaken): note_checkpoint,
    (Serving, CheckpointAck): note_answer,
    (Serving, LeaseRelease): release_serving,
    (Serving, StateHeard): repeat,
    (Serving, StopRequested): give_notice,
    (Serving, DeadlineReached): beat_serving,
    (Serving, PauseDenied): deny_pause,
    (Leaving, ContainerExited): note_exit,
    (Leaving, ContainerFailed): note_exit,
    (Leaving, CheckpointTaken): note_last,
    (Leaving, CheckpointAck): note_last_answer,
    (Leaving, LeaseRelease): let_go,
    (Leaving, StopRequested): hasten,
    (Leaving, DeadlineReached): beat_leaving,
    (Stopping, ContainerExited): say_stopped,
    (Stopping, ContainerFailed): give_up_stopping,
    (Stopping, DeadlineReached): give_up_stopping,
    (Settling, Receipt): settle,
    (Settling, Voucher): keep_voucher,
    (Settling, StateHeard): repeat,
    (Settling, DeadlineReached): give_up_settling,
}
INPUTS: Final = (
    LeaseConfirm, Deploy, Start, Voucher, LeaseRelease, Receipt, Prepared, PrepareFailed,
    FetchProgressed, ContainerStarted, ContainerExtended, ContainerExited, ContainerFailed,
    PauseDenied, CheckpointTaken, CheckpointAck, StateHeard, DeadlineReached, StopRequested,
    SlotFreed, RoundTripQuery, RoundTripsMeasured,
)  # fmt: skip
CONFIRMED: Final = frozenset({Active, Preparing, Waiting, Serving, Leaving, Stopping, Settling})
IGNORED: Final[Groups] = {
    "late or repeated: the lease has moved on": (
        pairs({Active}, {LeaseConfirm})
        | pairs({Preparing, Waiting}, {LeaseConfirm, Deploy})
        | pairs({Serving}, {LeaseConfirm, Deploy, Start})
        | pairs({Stopping}, {LeaseConfirm, Deploy, Start, Voucher, LeaseRelease})
        | pairs({Leaving}, {LeaseConfirm, Deploy, Start})
        | pairs({Stopping}, {CheckpointAck})
        | pairs({Settling}, {LeaseConfirm, Deploy, Start, LeaseRelease, CheckpointAck})
        | pairs(CONFIRMED, {RoundTripQuery})
    ),
    "measured twice, because the node restarted meanwhile": pairs(CONFIRMED, {RoundTripsMeasured}),
    "a late word of the sandbox: the container is told to stop, or is gone": (
        pairs({Leaving}, {ContainerStarted, ContainerExtended})
        | pairs({Stopping}, {ContainerStarted, ContainerExtended, CheckpointTaken})
        | pairs({Settling}, {ContainerStarted, ContainerExtended, ContainerExited, ContainerFailed})
        | pairs({Settling}, {CheckpointTaken})
    ),
    "it outlives a stop of the node, until the container has ended and the bill is settled": (
        pairs({Stopping, Settling}, {StopRequested})
    ),
    "nothing of it is billed any more": pairs({Leaving}, {Voucher}),
    "the requester has missed nothing that we could repeat": (
        pairs({Held, Active, Preparing, Leaving, Stopping}, {StateHeard})
    ),
    "the lease has ended": pairs({Ended}, INPUTS),
}
ILLEGAL: Final[Groups] = {
    "the requester is ahead of what we have told it": (
        pairs({Held}, {Deploy, Start, Voucher, Receipt})
        | pairs({Active, Preparing}, {Start, Voucher, Receipt})
        | pairs({Waiting}, {Voucher, Receipt})
        | pairs({Held, Active, Preparing, Waiting}, {CheckpointAck})
        | pairs({Serving, Leaving, Stopping}, {Receipt})
    ),
    "our node fetches nothing": pairs(
        {Held, Active, Waiting, Serving, Leaving, Stopping, Settling},
        {FetchProgressed, Prepared, PrepareFailed},
    ),
    "our node runs no container": pairs(
        {Held, Active, Preparing, Waiting},
        {ContainerStarted, ContainerExtended, ContainerExited, ContainerFailed, CheckpointTaken},
    ),
    "it has its capacity": pairs({Serving, Leaving, Stopping, Settling}, {SlotFreed}),
    "no container is paused": (
        pairs({Held, Active, Preparing, Waiting, Leaving, Stopping, Settling}, {PauseDenied})
    ),
}
