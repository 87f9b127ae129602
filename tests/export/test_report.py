"""The report says what the check found, shows what was played, and loads nothing from elsewhere."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from pocketgenie.export.bundle import load_bundle
from pocketgenie.export.charts import Bar, bars, curve, ratios
from pocketgenie.export.report import ReportData, Rollout, write_report
from pocketgenie.runtimes.results import (
    ArtefactFigures,
    BundleFacts,
    CheckDocument,
    FpsFigures,
    FrameFigures,
    Machine,
    MatrixRate,
    ParityFigures,
    PassFigures,
    ReferenceSpeed,
    RolloutFigures,
    RuntimeRow,
    Settings,
    TeacherFigures,
)

EMPTY = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}


class Outline(HTMLParser):
    """Checks that every tag is closed in its order; collects the words, the addresses and the tags."""

    def __init__(self, page):
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href")]
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


ROLLOUT = RolloutFigures(
    frames=64, rollouts=4, first_difference=None, margin=None, psnr_db=100, psnr_db_per_frame=(100,) * 64
)
PARITY = ParityFigures(
    artefact=ArtefactFigures(problems=(), operators=None),
    frame=FrameFigures(token_match=1, psnr_db=100, margin=None, encode_match=1),
    rollout=ROLLOUT,
    world={
        "recon_psnr_db": -1e-9,
        "next_frame_psnr_db": 0.001,
        "rollout_psnr_db": -0.001,
        "delta_psnr_db": 0.002,
    },
    **{"pass": PassFigures(max_abs=2.1e-5, kl=3e-9, top1=1.0)},
)


def speed(median, *ratios):
    return FpsFigures(
        p50=median,
        p95=median * 0.9,
        median=median,
        rounds=(median * 0.95, median),
        ratio_paper_way=ratios[0],
        ratio_cached=ratios[1],
        ratio_compiled=ratios[2],
    )


def row(name, status="passed", **figures):
    return RuntimeRow(
        **{"name": name, "precision": "fp32", "status": status, "reasons": (), "parity": PARITY} | figures
    )


def check(*rows):
    return CheckDocument(
        created="2026-11-22T17:00:00+00:00",
        bundle=BundleFacts(
            name="b",
            world="tiny",
            target="onnx",
            precision="fp32",
            sha256="0",
            checkpoint_sha256="1",
            size_mb=1,
        ),
        machine=Machine(
            cpu="A CPU",
            gpu=None,
            cores=2,
            memory_gb=24,
            system="Linux",
            matrix=MatrixRate(gflops=241, library="onnxruntime", shape=(1, 2, 3)),
        ),
        versions={"onnxruntime": "1.32.0"},
        settings=Settings(
            runtimes=("ort-cpu",),
            frames=64,
            rollouts=4,
            rounds=2,
            frames_per_round=32,
            clips=8,
            seed=0,
            min_fps=0,
        ),
        reference=ReferenceSpeed(fps_paper_way=0.48, fps_cached=21.3),
        gflop_per_frame=0.9,
        runtimes=rows,
    )


PASSED = check(
    row("compiled", fps=speed(27.1, 56.4, 1.27, 1.0)),
    row("ort-cpu", fps=speed(34.6, 72.1, 1.62, 1.28), memory_mb=181, first_frame_ms=930, limit_share=0.47),
)


@pytest.fixture(scope="module")
def manifest(tiny_bundle):
    return load_bundle(tiny_bundle).manifest


@pytest.fixture
def rollout():
    frames = np.random.default_rng(0).integers(0, 256, (13, 16, 16, 3), np.uint8)
    target = frames.copy()
    target[7:] ^= 1
    actions = (0, 1, 2, 3) * 3
    return Rollout(runtime="ort-cpu", reference=frames, target=target, actions=actions, first_difference=7)


def written(folder, **data):
    """-> the HTML's outline, the Markdown; both are checked for being self-contained"""
    write_report(folder, ReportData(**data))
    page, text = (folder / "report.html").read_text("utf-8"), (folder / "report.md").read_text("utf-8")
    outline = Outline(page)
    assert all(address.startswith("data:image/") for address in outline.addresses)
    assert "script" not in outline.tags
    assert not re.search(r"url\(|@import|http", page.split("</style>")[0])
    for file in re.findall(r"!\[[^]]*\]\(([^)]*)\)", text):
        assert (folder / file).is_file()
    return outline, text


def test_the_ratios_come_first(tmp_path, manifest, rollout):
    outline, text = written(
        tmp_path, manifest=manifest, check=PASSED, rollout=rollout, commands=["pocketgenie check b"]
    )
    words = " ".join(outline.words)
    assert "tiny on ort-cpu plays the same world" in words
    assert (
        "In 4 roll-outs of 64 frames every token is the one that the float32 PyTorch reference drew." in words
    )
    places = [
        words.index(what) for what in ("72.1×", "1.62×", "1.28×", "34.6 fps", "roll-out, twice", "Speed")
    ]
    assert places == sorted(places)
    for told in (words, text):
        for what in (
            "0.48",
            "21.3",
            "27.1",
            "47%",
            "181 MB",
            "0.9 s",
            "100.00% equal tokens",
            "reconstruction +0.000 dB",
            "+0.002 dB",
        ):
            assert what in told, what
        assert "241 GFLOP/s" in told
        assert "pocketgenie check b" in told
        assert "not run" not in told
    assert [section for section in re.findall(r"^## (.*)$", text, re.M) if "files" not in section] == [
        "How fast",
        "The same roll-out, twice",
        "Speed",
        "Is it the same world?",
        "How it was made",
        "What the figures mean",
    ]
    for name, entry in manifest.files.items():
        assert f"`{name}`" in text
        assert entry.sha256[:12] in text


def test_what_falls_short_or_did_not_run_is_said(tmp_path, manifest):
    reasons = ("L1 pass: top-1 agreement 0.91 is below 0.999",)
    document = check(
        row("compiled", "not run", parity=ParityFigures(), reasons=("needs a C++ | <b>compiler</b>",)),
        row("ort-cpu", "falls short", reasons=reasons, fps=speed(34.6, None, 1.62, None)),
    )
    outline, text = written(tmp_path, manifest=manifest, check=document)
    words = " ".join(outline.words)
    assert "tiny on ort-cpu falls short of the reference" in words
    assert "needs a C++ | <b>compiler</b>" in words  # as text, not as markup
    assert "b" not in {tag for tag in outline.tags if tag == "script"}
    for told in (words, text):
        assert "top-1 agreement 0.91 is below 0.999" in told
        assert "What did not run or falls short" in told
        assert "paper's way" in told
    verdicts = {
        line.split(" | ")[0].strip("| "): line.split(" | ")[1]
        for line in text.splitlines()
        if line.startswith("| L")
    }
    assert verdicts == {
        "L0 artefact": "passed",
        "L1 pass": "falls short",
        "L2 frame": "passed",
        "L3 rollout": "passed",
        "L4 world": "passed",
    }
    assert "C++ \\| &lt;b>" in text  # a bar must not end the cell


def test_a_rung_without_figures_is_not_passed(tmp_path, manifest):
    document = check(
        row(
            "ort-cpu",
            "not run",
            parity=PARITY.model_copy(update={"world": None}),
            reasons=("L4 world: no more memory",),
        )
    )
    _, text = written(tmp_path, manifest=manifest, check=document)
    assert "# tiny as onnx fp32: not proven on ort-cpu" in text
    assert "| L4 world | not run | no more memory | within 0.05 dB |" in text


def test_a_tie_is_told_with_its_margin(tmp_path, manifest):
    tie = ROLLOUT.model_copy(update={"first_difference": 11, "margin": 2e-6})
    document = check(row("ort-cpu", parity=PARITY.model_copy(update={"rollout": tie})))
    _, text = written(tmp_path, manifest=manifest, check=document)
    assert "is in frame 12: a tie, 2e-06 apart." in text


def test_a_bundle_without_a_check(tmp_path, manifest):
    outline, text = written(tmp_path, manifest=manifest, check=None, not_checked="no GPU in this machine")
    for told in (" ".join(outline.words), text):
        assert "built, not run" in told
        assert "Not run: no GPU in this machine." in told
        assert "passed" not in told
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.md"]


def test_the_pictures_are_those_that_were_played(tmp_path, manifest, rollout):
    held = np.random.default_rng(1).integers(0, 256, (5, 4, 16, 16, 3), np.uint8)
    held[:, 0] = held[0, 0]
    outline, text = written(tmp_path, manifest=manifest, check=PASSED, rollout=rollout, each_action=held)
    assert "The first token that differs is in frame 7." in text
    embedded = [base64.b64decode(address.split(",")[1]) for address in outline.addresses]
    assert (tmp_path / "rollout.gif").read_bytes() in embedded
    assert (tmp_path / "actions.gif").read_bytes() in embedded
    stills = [np.asarray(Image.open(io.BytesIO(data))) for data in embedded if data.startswith(b"\x89PNG")]
    for expected in (*rollout.reference[[0, 12]], *rollout.target[[0, 12]], *held[:, -1]):
        assert any(np.array_equal(still, expected) for still in stills)
    with Image.open(tmp_path / "rollout.gif") as gif:
        assert getattr(gif, "n_frames") == 13  # noqa: B009 (not every image has it); the last one stands still


def test_a_distilled_world_is_shown_beside_its_teacher(tmp_path, manifest, rollout):
    keys = ("next_frame_psnr_db", "rollout_psnr_db", "delta_psnr_db")
    found = TeacherFigures(
        runtime="ort-cpu",
        own=dict.fromkeys(keys, 21.0) | {"recon_psnr_db": 38.0, "action_perplexity": 6.5},
        teacher=dict.fromkeys(keys, 20.0) | {"recon_psnr_db": 39.0, "action_perplexity": 7.5},
        difference_db=dict.fromkeys(keys, 1.0) | {"recon_psnr_db": -1.0, "delta_psnr_db": -0.4},
        error_db=dict.fromkeys(keys, 0.12),
        separation=1.5,
        separation_teacher=2.5,
        hardest=(0, 2),
    )
    taught = np.random.default_rng(2).integers(0, 256, rollout.target.shape, np.uint8)
    checked = PASSED.model_copy(update={"quality": found})
    outline, text = written(tmp_path, manifest=manifest, check=checked, rollout=rollout, teacher=taught)
    section = text.split("## Beside its teacher")[1].split("## ")[0]
    lines = {line.split("|")[1].strip(): line for line in section.splitlines() if line.startswith("| ")}
    assert "passed" in lines["L4 next frame"] and "+1.00 ± 0.12 dB" in lines["L4 next frame"]
    assert "falls short" in lines["L4 controllability"] and "-0.40 ± 0.12 dB" in lines["L4 controllability"]
    assert "-1.00 dB" in lines["L4 reconstruction"] and "passed" not in lines["L4 reconstruction"]
    assert "≥ 2.00" in section and "hardest: 1 and 3" in section
    embedded = [base64.b64decode(address.split(",")[1]) for address in outline.addresses]
    assert (tmp_path / "teacher.gif").read_bytes() in embedded
    stills = [np.asarray(Image.open(io.BytesIO(data))) for data in embedded if data.startswith(b"\x89PNG")]
    assert any(np.array_equal(still, taught[12]) for still in stills)


def test_the_likeness_of_frames():
    black = np.zeros((4, 2, 2, 3), np.uint8)
    target = black.copy()
    target[2] = 1
    target[3] = 255
    rollout = Rollout(
        runtime="ort-cpu", reference=black, target=target, actions=(0, 0, 0), first_difference=2
    )
    assert rollout.psnr_db() == pytest.approx([100, 48.13, 0], abs=0.01)


def numbers(svg):
    return [float(value) for value in re.findall(r'(?:x|y|cx|cy|width)="([-\d.]+)"', svg)]


@pytest.mark.parametrize(
    "svg",
    [
        bars(
            [Bar(name="a<b", value=0, shown="0"), Bar(name="c", value=3, shown="3", marks=(1, 4), low=2)],
            "fps",
        ),
        bars([], "nothing"),
        ratios(
            [Bar(name="fast", value=72, shown="72×"), Bar(name="slow", value=0.5, shown="0.5×")], "ratios"
        ),
        ratios([Bar(name="same", value=1, shown="1×")], "ratios"),
        curve([100], 100, "one"),
        curve([100, 35, 12.5, 0], 100, "falling"),
    ],
)
def test_charts_stay_inside_their_box(svg):
    Outline(svg)
    assert all(-1 <= value <= 420 for value in numbers(svg)), numbers(svg)


def test_bars_are_to_scale():
    svg = bars([Bar(name="a", value=1, shown="1"), Bar(name="b", value=4, shown="4")], "fps")
    one, four = (float(width) for width in re.findall(r'width="([\d.]+)"', svg))
    assert four == pytest.approx(4 * one)
