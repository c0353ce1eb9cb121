"""Nothing in a trace says who or what it was. Spec: specs/trace.md#anonymity."""

from dataclasses import replace

from node.rpc.job_views import JobEventView
from node.service.anonymous import OTHER, Anonymous, Numbering
from node.trace_format import OWN, TracedBid, TracedGpus, TracedRefusal, encode_line
from protocol.core.jobs import Job
from protocol.machines.answers import AnsweredCall, BidResult
from protocol.values.ids import CallId, JobId, PeerId, digest_of
from protocol.values.reasons import Refusal
from protocol.wire.job import BlobRef, EnvVar, FileRef, JobSpec, Resources, Terms, Workload
from protocol.wire.messages import CapabilityRecord, GpuGroup, Prices

OURS, ANA, BIA = PeerId("ours"), PeerId("ana"), PeerId("bia")
IMAGE = digest_of(b"image")
SECRETS = (b"ana", b"bia", b"ours", b"secret", b"europe", IMAGE.hex()[:16].encode())
SPEC = JobSpec(
    "secret name",
    Workload(
        IMAGE, ("secret", "command"), (EnvVar("KEY", "secret"),),
        (FileRef("secret/path", BlobRef(digest_of(b"x"), 40)),),
        Resources(2, 64, 99, 1, "a100"), image_bytes=7,
    ),
    Terms(0, region="europe", where="peer=secret"), b"secret",
)  # fmt: skip
JOB = Job(JobId(b"J" * 16), SPEC, 1_500)
RECORD = CapabilityRecord(
    1, 1_400, 10, ("/ip4/1.2.3.4/secret",), True, "europe", 8, 1024, 99,
    (GpuGroup("a100", 2, 81_920, "secret name"),), ("secret",), Prices(5, 6, 7),
    (IMAGE[:8], b"\x01" * 8), "secret agent",
)  # fmt: skip


def test_things_are_numbered_as_they_appear():
    numbers = Numbering()
    assert [numbers.of(each) for each in "aba"] == [1, 2, 1]
    assert "b" in numbers
    assert "c" not in numbers


def test_a_job_is_its_class_and_its_sizes():
    job = Anonymous(OURS, 1_000).job(JOB)
    assert (job.at_ms, job.job, job.image, job.image_bytes, job.input_bytes) == (500, 1, 1, 7, 40)
    assert (job.cpus, job.gpus, job.gpu_class, job.region, job.gang) == (2, 1, "a100", 1, 0)
    member = replace(SPEC, terms=replace(SPEC.terms, nodes=2), array=b"G" * 12)
    assert Anonymous(OURS, 1_000).job(replace(JOB, spec=member)).gang == 1


def test_an_offer_names_the_images_of_jobs_alone():
    trace = Anonymous(OURS, 1_000)
    assert trace.offer(ANA, RECORD, 1_600).images == ()
    trace.job(JOB)
    offer = trace.offer(ANA, RECORD, 1_600)
    assert (offer.at_ms, offer.peer, offer.region, offer.images) == (600, 1, 1, (1,))
    assert (offer.cpu_rate, offer.memory_gib_rate, offer.gpu_rate) == (5, 6, 7)
    assert offer.gpus == (TracedGpus("a100", 2, 81_920),)


def test_events_have_numbers_in_place_of_peers_and_no_texts():
    trace = Anonymous(OURS, 1_000)
    detail = {
        "bids": [{"peer": "bia", "bid": {"ask": 9, "secret": 1}, "eligible": True}],
        "unopened": 1, "refusals": [["ana", 1]], "why": "secret",
    }  # fmt: skip
    bids = trace.event(JOB, JobEventView(3, 1_700, "bids", detail))
    assert bids.bids == (TracedBid(1, 9, eligible=True),)
    assert bids.refusals == (TracedRefusal(2, "busy"),)
    won = JobEventView(4, 1_750, "awarded", {"provider": "bia", "rate": 5, "lease_id": "secret"})
    assert (trace.event(JOB, won).provider, trace.event(JOB, won).rate) == (1, 5)
    failed = JobEventView(5, 1_800, "failed", {"provider": "", "reason": "expired"})
    assert (trace.event(JOB, failed).provider, trace.event(JOB, failed).reason) == (None, "expired")
    reasons = [
        trace.event(JOB, JobEventView(6, 1_900, "done", {"reason": reason})).reason
        for reason in ("exited", "timeout", "what Ana says")
    ]
    assert reasons == ["exited", "timeout", OTHER]


def test_nothing_secret_is_written():
    trace = Anonymous(OURS, 1_000)
    detail = {
        "provider": "ana", "why": "secret", "detail": "secret", "outputs": "secret",
        "reason": "secret",
    }  # fmt: skip
    answered = AnsweredCall(
        CallId(b"secret" * 5), 1_900, BIA, Resources(), 5, BidResult.LOST, "secret",
        refusal=Refusal.PRICE, winner=OURS,
    )  # fmt: skip
    lines = [
        trace.job(JOB), trace.offer(ANA, RECORD, 0), trace.offer(OURS, RECORD, 0),
        trace.event(JOB, JobEventView(1, 1_600, "done", detail)), trace.answer(answered),
    ]  # fmt: skip
    text = b"".join(map(encode_line, lines))
    assert [secret for secret in SECRETS if secret in text] == []
    assert trace.peer(OURS) == OWN
    assert trace.at(3) == 0
