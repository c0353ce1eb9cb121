"""What happened in a network, in words that a reviewer can follow.

Spec: specs/core.md#job-events.
"""

from collections.abc import Callable

from protocol.machines import events
from protocol.machines.events import JobEvent
from protocol.values.ids import PeerId
from protocol.values.reasons import Decline, Refusal, Release
from protocol.wire import messages as wire
from protocol.wire.messages import Message

Naming = Callable[[PeerId], str]


def of_message(message: Message, name_of: Naming) -> str:
    """Return the name of a message and what matters of its content."""
    name = type(message).__name__
    match message:
        case wire.BidRefusal():
            return f"{name} {Refusal(message.reason).name}"
        case wire.AwardDecline():
            return f"{name} {Decline(message.reason).name}"
        case wire.LeaseRelease():
            return f"{name} {Release(message.reason).name}"
        case wire.CommitSet():
            return f"{name} of {len(message.commitments)}"
        case wire.BidReveal():
            return f"{name} ask={message.bid.ask}"
        case wire.Outcome():
            won = ", ".join(f"{name_of(each.peer)}{f' x {each.slots}' if each.slots > 1 else ''}"
                            for each in message.winners)  # fmt: skip
            return f"{name} {won or 'nobody'} clearing={message.clearing}"
        case wire.Award():
            return f"{name} slot={message.slot} offer={message.offer} rate={message.rate}"
        case wire.RoundTrips():
            return f"{name} {', '.join(f'{us / 1000:g} ms' for us in message.round_trips_us)}"
        case wire.Heartbeat():
            state = {wire.PREPARING: "preparing", wire.RUNNING: "running"}
            return f"{name} {state[message.state]} usage_ms={message.usage_ms}"
        case wire.Voucher():
            return f"{name} {message.sequence} usage_ms={message.usage_ms} amount={message.amount}"
        case wire.Completed():
            return f"{name} exit_code={message.exit_code} usage_ms={message.usage_ms}"
        case wire.Checkpoint():
            return f"{name} {message.sequence} size={message.size}"
        case wire.CheckpointAck():
            return f"{name} {message.sequence}{'' if message.kept else ' not kept'}"
        case wire.PreemptNotice():
            return f"{name} notice_ms={message.notice_ms}"
        case wire.Released():
            return f"{name} usage_ms={message.usage_ms}"
        case wire.Receipt():
            return f"{name} amount={message.amount}"
    return name


def of_event(event: JobEvent, name_of: Naming) -> str:
    """Return the name of what a user is told, and what matters of its content."""
    name = f"*{type(event).__name__}*"
    match event:
        case events.Queued():
            return f"{name} attempt={event.attempt} {event.reason.value}: {event.why}"
        case events.Announced():
            return f"{name} attempt={event.attempt} nodes={event.nodes} eligible={event.eligible}"
        case events.BidsOpened():
            asks = ", ".join(f"{name_of(bid.peer)} {bid.bid.ask}" for bid in event.bids)
            return f"{name} {asks or 'none'}; unopened={event.unopened}"
        case events.Awarded():
            return f"{name} {name_of(event.provider)} rate={event.rate} ask={event.ask}"
        case events.Fetching(resumes_from=number) if number:
            return f"{name} {name_of(event.provider)} from checkpoint {number}"
        case events.Checkpointed():
            return f"{name} {event.number} size={event.size}"
        case events.Preempted():
            return f"{name} {name_of(event.provider)} notice_ms={event.notice_ms}"
        case events.Fetching() | events.Starting() | events.Running() | events.Cancelling():
            return f"{name} {name_of(event.provider)}"
        case events.Returning():
            return f"{name} exit_code={event.exit_code} usage_ms={event.usage_ms}"
        case events.Done():
            signed = "countersigned" if event.countersign else f"disputed: {event.dispute}"
            return f"{name} exit_code={event.exit_code} amount={event.amount} {signed}"
        case events.Retrying() | events.Failed():
            cost = f" (cost {event.amount})" if event.amount else ""
            return f"{name} {event.reason.value}: {event.why}{cost}"
    return name
