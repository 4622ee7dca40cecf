"""The page in a real Chromium, by what a person does there; what it draws is what `sample.py` and `edit.py` draw."""

import base64
import io
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import diffusion_lab as lab
from diffusion_lab.checkpoints import load_checkpoint
from diffusion_lab.errors import UserError
from diffusion_lab.export.serving import server
from diffusion_lab.export.subject import opened
from diffusion_lab.parts import build
from tests.commands.test_edit import written_checkpoint
from tests.conftest import composed
from tests.export.browser import chromium, needs_chromium

pytestmark = needs_chromium
SECOND = 1000  # milliseconds
PATIENCE = 120 * SECOND  # on a machine that is busy


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return written_checkpoint(tmp_path_factory.mktemp("checkpoint") / "untrained.ckpt")


@pytest.fixture(scope="module")
def folder(checkpoint, tmp_path_factory, cache_dir) -> Path:
    folder = tmp_path_factory.mktemp("page")
    write = build(composed("export", "format=web", f"checkpoint={checkpoint}").format, "format", _convert_="all")
    try:
        write(opened(load_checkpoint(checkpoint)), folder)
    except UserError as error:
        if "npm" not in str(error):
            raise
        pytest.skip(f"THE PAGE IS NOT TESTED: {error}")
    return folder


@pytest.fixture(scope="module")
def address(folder):
    """Of a server that hands out the folder's files."""
    with server(folder) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_port}/"
        serving.shutdown()


@pytest.fixture(scope="module")
def launch():
    with chromium() as launch:
        yield launch


@pytest.fixture(scope="module")
def browser(launch):
    return launch()


class Visit:
    """The page, opened by somebody; at the end nothing was said on the console, and nothing fetched from elsewhere."""

    def __init__(self, browser, address: str, rest: str = "", context=None, **look):
        self.context = context or browser.new_context(**{"viewport": {"width": 1180, "height": 900}, **look})
        self.page, self.wrong, self.drawn = self.context.new_page(), [], 0
        self.page.on("console", lambda message: self.wrong.append(message.text))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("request", lambda request: self._fetched(request.url, address))
        self.page.goto(address + rest)
        self.page.wait_for_selector("html[data-ready]", timeout=PATIENCE)

    def _fetched(self, url: str, address: str) -> None:
        if not url.startswith((address, "data:", "blob:")):
            self.wrong.append(f"fetched {url}")

    def choose(self, mode: str) -> None:
        self.page.check(f"input[name=mode][value={mode}]", force=True)

    def set(self, **settings) -> None:
        for name, value in settings.items():
            field = self.page.locator(f"[name={name}]")
            if field.evaluate("field => field.tagName") == "SELECT":
                field.select_option(str(value))
            else:
                field.fill(str(value))

    def draw(self, press: bool = True) -> np.ndarray:
        """The images that are drawn, (N, H, W) bytes."""
        if press:
            self.page.click("#draw")
        self.drawn += 1
        self.page.wait_for_selector(f"html[data-drawn^='{self.drawn} ']", timeout=PATIENCE)
        return self.images()

    def images(self, canvas: str = "estimate") -> np.ndarray:
        picture = self.picture(canvas)
        rows, columns = ((side + 1) // 29 for side in picture.shape[:2])
        cells = [picture[29 * r : 29 * r + 28, 29 * c : 29 * c + 28] for r in range(rows) for c in range(columns)]
        return np.stack([cell[..., 0] for cell in cells if cell[..., 3].all()])

    def picture(self, canvas: str) -> np.ndarray:
        """What is on a canvas, (H, W, 4) bytes."""
        url = self.page.evaluate(f"document.getElementById('{canvas}').toDataURL()")
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert("RGBA")).astype(int)

    def close(self) -> None:
        self.context.close()
        assert not self.wrong


@pytest.fixture
def visit(browser, address):
    visits = []

    def begin(rest: str = "", **context) -> Visit:
        visits.append(Visit(browser, address, rest, **context))
        return visits[-1]

    yield begin
    for each in visits:
        each.close()


def bytes_of(images: torch.Tensor) -> np.ndarray:
    return (images[:, 0] * 255).round().int().numpy()


def assert_same(drawn: np.ndarray, wanted: torch.Tensor) -> None:
    """The same images, but for rounding to bytes."""
    wanted = bytes_of(wanted)
    assert drawn.shape == wanted.shape
    assert np.abs(drawn - wanted).max() <= 1
    assert wanted.std() > 20  # which blank images would not be


@pytest.mark.ci
def test_somebody_draws_scrubs_and_changes_settings(visit, checkpoint):
    person, model = visit(), lab.load(checkpoint)
    person.set(count=4)
    assert_same(person.draw(), model.sample(4, guidance=1.0))  # as trained: dpmpp_2m_eta, with fresh noise
    person.set(sampler="ddim", guidance=2.5, seed=7, steps=5, **{"class": 3})
    last = person.draw()
    assert_same(last, model.sample(4, label=3, guidance=2.5, sampler="ddim", steps=5, seed=7))
    person.page.locator("#step").fill("1")
    assert "step 1 of 5" in person.page.get_attribute("#estimate", "aria-label")
    first = person.images()
    assert np.abs(first - last).max() > 20
    assert np.abs(person.images("noisy") - first).mean() > 20
    person.page.keyboard.press("End")
    assert np.array_equal(person.images(), last)
    with person.page.expect_download() as download:
        person.page.click("#save")
    assert Image.open(download.value.path()).size == (57, 57)


@pytest.mark.parametrize("sampler", ["ddpm", "dpmpp_2m"])
def test_a_link_reproduces_the_other_samplers(visit, checkpoint, sampler):
    link = f"#mode=noise&class=each&guidance=1.5&count=9&steps=6&seed=123456789012345678&sampler={sampler}"
    person = visit(link)
    wanted = lab.load(checkpoint).sample(9, guidance=1.5, sampler=sampler, steps=6, seed=123456789012345678)
    assert_same(person.draw(press=False), wanted)


def stroke(person: Visit) -> None:
    person.page.locator("#pad").scroll_into_view_if_needed()
    box = person.page.locator("#pad").bounding_box()
    person.page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.3 * box["height"])
    person.page.mouse.down()
    person.page.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 0.6 * box["height"], steps=4)
    person.page.mouse.up()


def pad(person: Visit) -> torch.Tensor:
    """What is drawn on the pad, uint8 (1, 1, 28, 28)."""
    return torch.from_numpy(person.picture("pad")[..., 0].astype(np.uint8))[None, None]


def test_a_stroke_is_made_real_as_sdedit_does_and_its_link_does_the_same(visit, checkpoint):
    person = visit()
    person.choose("pad")
    person.set(count=4, sampler="ddim", steps=4, strength=0.5, guidance=1, seed=3, **{"class": 2})
    stroke(person)
    drawing = pad(person)
    assert 100 < (drawing > 0).sum() * 4 < 700
    drawn = person.draw()
    model = lab.load(checkpoint)
    options = {"label": 2, "sampler": "ddim", "steps": 4, "seed": 3, "guidance": 1.0}
    wanted = model.edit("sdedit", drawing.expand(4, -1, -1, -1), strengths=[0.5], **options)
    assert_same(drawn, wanted.pixels["strength 0.5"])
    again = visit(person.page.url.split("/")[-1])
    assert np.array_equal(again.draw(press=False), drawn)


def test_a_hole_is_filled_as_repaint_does(visit, checkpoint):
    person, model = visit(), lab.load(checkpoint)
    person.set(count=1, **{"class": 5})
    given = person.draw()
    person.choose("fill")
    person.set(steps=9)
    stroke(person)
    drawn = person.draw()
    changed = drawn != given
    assert 10 < changed.sum() < 200  # the rest is kept to the byte
    hole = Image.fromarray((changed[0] * 255).astype(np.uint8))
    assert hole.getbbox()[0] >= 5
    # The hole that was painted, as a mask in the link has it.
    words = dict(pair.split("=") for pair in person.page.url.split("#")[1].split("&"))
    bits = np.frombuffer(base64.urlsafe_b64decode(words["mask"] + "=="), np.uint8)
    unknown = np.unpackbits(bits, bitorder="little").reshape(28, 28).astype(bool)
    file = checkpoint.with_name("mask.png")
    Image.fromarray((unknown * 255).astype(np.uint8)).save(file)
    image = torch.from_numpy(given.astype(np.uint8))[None]
    options = {"label": 5, "sampler": "repaint", "steps": 9, "guidance": 1.0}
    wanted = model.edit("inpaint", image, mask=str(file), **options).pixels["result"]
    assert np.abs(drawn - bytes_of(wanted)).max() <= 1


def test_between_two_seeds_lie_images_that_end_at_theirs(visit, checkpoint):
    """Also by a sampler that takes fresh noise at every step."""
    person, model = visit(), lab.load(checkpoint)
    person.choose("between")
    person.set(count=4, steps=3, seed=1, seed2=2, **{"class": 0})
    drawn = person.draw()
    ends = [model.sample(1, label=0, steps=3, seed=seed, guidance=1.0) for seed in (1, 2)]
    assert np.abs(drawn[[0, 3]] - bytes_of(torch.cat(ends))).max() <= 1
    near, far = (np.abs(drawn[0] - drawn[i]).mean() for i in (1, 3))
    assert 0 < near < far


def test_on_a_phone_by_keyboard_in_the_dark(visit):
    person = visit(viewport={"width": 380, "height": 780}, color_scheme="dark", has_touch=True)
    assert person.page.evaluate("document.documentElement.scrollWidth") <= 380
    assert person.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(22, 21, 19)"
    person.set(count=1, steps=2)
    person.page.focus("#draw")
    person.page.keyboard.press("Enter")
    person.draw(press=False)
    person.choose("pad")
    person.page.focus("#pad")
    before = pad(person)
    for key in (" ", "ArrowLeft", "ArrowLeft", " ", "Tab"):
        person.page.keyboard.press(key)
    assert (pad(person) != before).sum() >= 4
    unnamed = person.page.evaluate(
        "[...document.querySelectorAll('canvas, button, select, input')].filter(each =>"
        " !each.labels?.length && !each.getAttribute('aria-label') && !each.textContent.trim()).map(each => each.id)"
    )
    assert unnamed == []


@pytest.mark.slow  # Chromium's WebGPU without a GPU: right, and very slow
@pytest.mark.parametrize("tolerance", ["1e-3", "-1"])
def test_webgpu_is_taken_only_where_it_gives_wasms_values(launch, address, folder, checkpoint, tolerance):
    worker = (folder / "worker.js").read_text().replace("TOLERANCE = 1e-3", f"TOLERANCE = {tolerance}")
    options = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan")
    context = launch(*options).new_context()
    context.route("**/worker.js*", lambda route: route.fulfill(body=worker, content_type="text/javascript"))
    person = Visit(None, address, "?backend=webgpu", context=context)
    person.page.wait_for_selector("html[data-backend]", timeout=PATIENCE)
    said = person.page.get_attribute("html", "data-backend")
    assert said == ("WebGPU" if tolerance == "1e-3" else "WASM (WebGPU gives other values)")
    person.set(count=1, sampler="ddim", steps=3)
    wanted = lab.load(checkpoint).sample(1, guidance=1.0, sampler="ddim", steps=3)
    assert np.abs(person.draw() - bytes_of(wanted)).max() <= 1
    context.close()


def test_odd_links_and_hurried_clicks_are_taken_well(visit, checkpoint):
    odd = "mode=none&class=77&guidance=abc&count=100000&steps=1e9&seed=-3&seed2=x&sampler=__proto__&strength=9"
    person = visit(f"#{odd}&image=%25&mask=!")
    fields = ("mode", "class", "guidance", "count", "seed", "seed2", "sampler", "strength")
    read = person.page.evaluate("names => names.map(name => document.getElementById('form').elements[name].value)", fields)
    assert read == ["noise", "each", "1", "16", "0", "1", "dpmpp_2m_eta", "0.6"]
    for count in (16, 9, 4):  # each takes the place of the one before
        person.set(count=count, steps=12)
        person.page.click("#draw")
    person.set(count=1, sampler="ddim", steps=2, **{"class": 4})
    person.page.click("#draw")
    person.drawn = 4
    assert_same(person.draw(press=False), lab.load(checkpoint).sample(1, label=4, sampler="ddim", steps=2, guidance=1.0))


def test_opened_from_a_file_it_says_what_to_type(browser, folder):
    page = browser.new_context().new_page()
    page.goto(f"{folder.as_uri()}/index.html")
    assert "type python -m http.server 8000 in this folder" in page.inner_text("#status")
    page.context.close()


def test_where_the_browser_cannot_one_line_says_so(browser, address, folder):
    page = browser.new_context().new_page()
    page.add_init_script("delete globalThis.WebAssembly")
    page.goto(address)
    assert "This browser cannot run the model: it has no WebAssembly" in page.inner_text("#status")
    assert page.is_disabled("#draw")
    page.context.close()


@pytest.mark.ci
def test_a_browser_that_never_was_online_is_enough(folder):
    """No address but this machine's is in what the page is made of."""
    for file in folder.glob("*.*"):
        if file.suffix in (".html", ".js"):
            text = file.read_text()
            places = [word for word in text.split('"') if "://" in word and "localhost" not in word]
            assert not places
