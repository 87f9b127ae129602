"""The panels, run by Streamlit's AppTest: what they offer, do, and say when something lacks."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("streamlit", reason="the extra `demo` is not installed")

from streamlit.testing.v1 import AppTest

import pocketgenie.web_demo
from pocketgenie.export.bundle import amended
from pocketgenie.quantize.pareto import (
    JUDGED,
    SEARCH,
    Baseline,
    Goal,
    Point,
    SearchDocument,
    choose,
    explain,
    front,
)
from pocketgenie.runtimes.pictures import encode_gif
from pocketgenie.web_demo.hub import hub
from pocketgenie.web_demo.panel_compare import DONE as COMPARED
from pocketgenie.web_demo.panel_imitate import DONE as IMITATED
from pocketgenie.web_demo.panel_play import TICKET
from pocketgenie.web_demo.settings import VARIABLE, Settings

PANELS = ("play", "imitate", "compare", "judge", "export")
RUN = """
if __name__ == "__main__":  # new processes run the main module of their parent: see page.py
    from pocketgenie.web_demo.pages import show_one
    show_one({panel!r})
"""


@pytest.fixture
def settings(tiny_bundle: Path, faulty_bundle: Path, tmp_path: Path) -> Settings:
    dist = tmp_path / "dist"
    dist.mkdir()
    shutil.copytree(tiny_bundle, dist / "a-sound")
    shutil.copytree(faulty_bundle, dist / "b-faulty")
    return Settings(dist=dist, checkpoints=())


@pytest.fixture
def page(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Runs one panel with these settings."""

    def run(panel: str, changed: Settings = settings) -> AppTest:
        monkeypatch.setenv(VARIABLE, changed.model_dump_json())
        hub.cache_clear()
        return AppTest.from_string(RUN.format(panel=panel), default_timeout=120).run()

    yield run
    hub().close()
    hub.cache_clear()


def sound(app: AppTest) -> AppTest:
    assert not app.exception and not app.error, [*app.exception, *app.error]
    return app


def button(app: AppTest, label: str) -> Any:
    return next(one for one in app.button if one.label == label)


def component_data(app: AppTest, name: str) -> dict[str, Any]:
    """What the last component of this name was given."""
    found = []
    for block in walk(app._tree.root):
        proto: Any = getattr(block, "proto", None)
        if getattr(proto, "component_name", "") == f"pocketgenie_{name}":
            found.append(proto.json)
    data: dict[str, Any] = json.loads(found[-1])
    return data


def walk(block: Any) -> Iterator[Any]:
    yield block
    for child in getattr(block, "children", {}).values():
        yield from walk(child)


def test_the_page_itself_runs() -> None:
    script = Path(pocketgenie.web_demo.__file__).with_name("page.py")
    sound(AppTest.from_file(str(script), default_timeout=60).run())


@pytest.mark.parametrize("panel", PANELS)
def test_every_panel_opens(page: Any, panel: str) -> None:
    sound(page(panel))


@pytest.mark.parametrize("panel", PANELS)
def test_without_bundles_every_panel_says_how_to_get_one(page: Any, tmp_path: Path, panel: str) -> None:
    app = sound(page(panel, Settings(dist=tmp_path / "none", checkpoints=())))
    words = " ".join(one.value for one in [*app.markdown, *app.info])
    assert "pocketgenie export" in words or "pocketgenie train" in words


def test_a_damaged_bundle_is_named_and_left_out(page: Any, settings: Settings) -> None:
    (settings.dist / "b-faulty" / "weights.bin").write_bytes(b"")
    app = sound(page("play"))
    assert "b-faulty is left out" in app.warning[0].value
    assert app.selectbox(key="play-bundle").options == ["a-sound"]


def test_play_hands_out_a_ticket_and_keeps_it(page: Any) -> None:
    app = sound(page("play"))
    first: Any = app.session_state[TICKET]
    assert hub().tickets.known[first.key] is first and first.revision == 0
    assert component_data(app, "play")["ticket"] == first.key
    app.number_input(key="play-seed").set_value(7).run()
    assert app.session_state[TICKET] is first and (first.seed, first.revision) == (7, 1)
    app.selectbox(key="play-bundle").set_value("b-faulty").run()
    assert app.session_state[TICKET].key != first.key


def test_a_picture_of_ones_own(page: Any) -> None:
    app = page("play")
    app.button_group(key="play-way").set_value("Upload").run()
    assert "Choose a picture" in app.info[0].value
    app.file_uploader(key="play-upload").upload("x.png", b"no picture", "image/png").run()
    assert "no picture" in app.error[0].value and "/" not in app.error[0].value


def test_words_say_what_to_put_where(page: Any) -> None:
    app = page("play")
    app.button_group(key="play-way").set_value("Describe").run()
    assert app.text_area(key="play-prompt").disabled
    assert "--prompt-model" in app.info[0].value and "model_index.json" in app.info[0].value


def test_the_same_bundle_twice_is_equal_and_the_faulty_one_is_not(page: Any) -> None:
    app = page("compare")
    app.slider(key="compare-frames").set_value(8).run()
    button(app, "Compare").click().run()
    apart = sound(app).session_state[COMPARED]
    assert apart.differing().any() and min(apart.psnr_db()) < 100
    assert "differing tokens" in component_data(app, "blocks")["html"]
    app.slider(key="compare-frame").set_value(0).run()
    app.selectbox(key="compare-Right-bundle").set_value("a-sound").run()
    button(app, "Compare").click().run()
    same = sound(app).session_state[COMPARED]
    assert not same.differing().any() and set(same.psnr_db()) == {100.0}
    assert "100.0%" in component_data(app, "blocks")["html"]


def test_typed_actions_are_checked(page: Any) -> None:
    app = page("compare")
    app.button_group(key="compare-actions-way").set_value("Typed").run()
    app.text_input(key="compare-actions").set_value("1,9").run()
    assert "out of range" in app.error[0].value
    assert button(app, "Compare").disabled


def test_a_video_is_imitated(page: Any, tiny_checkpoint: Path) -> None:
    clip = np.load(tiny_checkpoint / "clips.npz")["frames"][0]
    app = page("imitate")
    film = encode_gif(list(clip), 10)
    app.file_uploader(key="imitate-video").upload("walk.gif", film, "image/gif").run()
    button(app, "Imitate").click().run()
    _, found = sound(app).session_state[IMITATED]
    assert len(found.actions) == len(found.video) - 1 == len(found.film.frames) - 1
    assert "latent actions" in component_data(app, "blocks")["html"]


def test_what_is_no_video(page: Any) -> None:
    app = page("imitate")
    app.file_uploader(key="imitate-video").upload("x.mp4", b"#EXTM3U\nhttp://example.org", "video/mp4").run()
    button(app, "Imitate").click().run()
    assert "the video" in app.error[0].value and "/" not in app.error[0].value


def searched(settings: Settings) -> SearchDocument:
    """Put what a precision search writes into a bundle."""
    points = tuple(
        Point(
            name=name,
            steps=2,
            decoder="own",
            precision=name,
            bits={},
            fps=fps,
            ratio=fps / 50,
            size_mb=6.5,
            figures=dict.fromkeys(JUDGED, 26 + quality),
            quality_db=quality,
        )
        for name, fps, quality in (("fp32", 50.0, 0.0), ("int8", 100.0, -0.1), ("int4", 120.0, -0.9))
    )
    goal = Goal(budget_db=0.3)
    chosen = choose(points, goal)
    document = SearchDocument(
        world="tiny",
        checkpoint_hash="0",
        goal=goal,
        baseline=Baseline(name="fp32", figures=points[0].figures),
        points=points,
        chosen=chosen.name,
        why=explain(points, chosen, goal),
        front=tuple(point.name for point in front(points)),
        machine="a CPU",
        cores=1,
        clips=2,
        rounds=3,
        seconds=4.0,
    )
    with amended(settings.dist / "a-sound") as new:
        (new / SEARCH).write_text(document.model_dump_json())
    return document


def test_the_chart_of_a_search_is_shown(page: Any, settings: Settings) -> None:
    document = searched(settings)
    html = component_data(sound(page("judge")), "blocks")["html"]
    assert html.count("<circle") == len(document.points) and "over the budget" in html


def test_an_altered_search_is_not_shown(page: Any, settings: Settings) -> None:
    searched(settings)
    place = settings.dist / "a-sound" / SEARCH
    place.write_text(place.read_text().replace("26.0", "96.0"))
    assert "altered" in page("judge").error[0].value


@pytest.mark.slow
def test_a_check_from_the_page_fills_the_tables(page: Any) -> None:
    app = page("judge")
    assert "was not checked" in " ".join(one.value for one in app.markdown)
    app.multiselect(key="judge-a-sound").set_value(["ort-cpu"]).run()
    app.slider(key="judge-frames").set_value(16).run()
    button(app, "Check").click().run()
    job = hub().jobs.last
    assert job is not None
    assert any(one.label == "Cancel" for one in app.button)
    job.thread.join(240)
    app.run()
    assert job.state == "done", (job.words, job.lines)
    html = component_data(sound(app), "blocks")["html"]
    assert "ort-cpu" in html and "Speed" in html


@pytest.mark.slow
def test_an_export_from_the_page_appears_in_the_lists(page: Any, settings: Settings) -> None:
    app = page("export")
    assert app.selectbox(key="export-source").options == ["bundle a-sound", "bundle b-faulty"]
    app.radio(key="export-precision-onnx").set_value("fp32").run()
    button(app, "Export").click().run()
    job = hub().jobs.last
    assert job is not None
    while job.state == "running":
        time.sleep(0.2)
    assert job.state == "done", (job.words, job.lines)
    app.run()
    assert "a-sound-onnx-fp32" in app.dataframe[0].value["bundle"].tolist()
    assert (settings.dist / "a-sound-onnx-fp32" / "manifest.json").is_file()
