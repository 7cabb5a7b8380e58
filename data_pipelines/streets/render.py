"""From a scene and a style to a picture and its label map."""

from __future__ import annotations

import cv2
import numpy as np

from data_pipelines.streets.canvas import SKY, VOID, Canvas
from data_pipelines.streets.ground import Ground
from data_pipelines.streets.light import Light
from data_pipelines.streets.sensor import expose
from data_pipelines.streets.stage import Stage
from data_pipelines.streets.textures import broad_noise, clouds, crop, ground_noise, surface_noise
from data_pipelines.streets.weather import View, apply
from data_pipelines.streets.world import Scene


def render(scene: Scene, stage: Stage, style: str, size: tuple[int, int], paint: np.random.Generator, look: np.random.Generator):
    """Image and label, uint8. `paint` decides shapes and own colours (the same in all weather), `look` light and weather."""
    scale = 2 if size[0] * size[1] <= 400_000 else 1
    light = Light(style, look)
    canvas = Canvas(scene.camera, size, scale, light, scene.edition)
    _sky(canvas, look)
    ground = Ground(canvas, scene)
    ground.paint()
    ground.facade_shadows(stage.buildings)
    stage.paint(canvas, paint)
    if scene.bonnet:
        _bonnet(canvas, scene.bonnet, paint)
    view, label = _resolve(canvas, style, scene)
    _texture(view, canvas, look)
    image = expose(apply(view, style, canvas, look), style, look)
    if scene.mirrored:
        image, label = image[:, ::-1], label[:, ::-1]
    return np.ascontiguousarray(image), np.ascontiguousarray(label)


def _sky(canvas: Canvas, look: np.random.Generator) -> None:
    h, w = canvas.size
    horizon = canvas.camera.horizon(w / 2)
    rows = int(np.clip(horizon + 3, 2, h))
    low, wide = -(-rows // 2), -(-w // 2)
    noise = cv2.resize(np.ascontiguousarray(crop(clouds(), look, (160, 320))), (wide, low), interpolation=cv2.INTER_LINEAR)
    sky = np.zeros((low, wide, 4), np.uint8)
    sky[..., :3] = np.clip(canvas.light.sky_picture(noise, (horizon - 2.0 * np.arange(low)) / h, look), 0, 255)
    rows *= canvas.scale
    cv2.resize(sky, (w * canvas.scale, rows), dst=canvas.pixels[:rows], interpolation=cv2.INTER_LINEAR)
    canvas.pixels.view(np.uint32)[rows:] = sky.view(np.uint32)[-1, wide // 2]


def _bonnet(canvas: Canvas, share: float, paint: np.random.Generator) -> None:
    """The front of the camera's own car at the bottom of the picture: void."""
    h, w = canvas.pixels.shape[:2]
    x = np.linspace(-0.05, 1.05, 24)
    ridge = np.stack([x * w, h * (1 - share * (1 - (2 * x - 1) ** 4))], axis=1)
    colour = paint.uniform(15, 90) + paint.normal(0, 5, 3)
    canvas.fill(np.concatenate([ridge, [[w * 1.05, h + 9], [-0.05 * w, h + 9]]]), colour, canvas.number(VOID, 1.0))


def _resolve(canvas: Canvas, style: str, scene: Scene) -> tuple[View, np.ndarray]:
    """Average the canvas down to the image and look up what every pixel is."""
    h, w = canvas.size
    numbers = np.ascontiguousarray(canvas.pixels[:: canvas.scale, :: canvas.scale, 3])
    small = canvas.pixels if canvas.scale == 1 else cv2.resize(canvas.pixels, (w, h), interpolation=cv2.INTER_AREA)
    rgb = cv2.cvtColor(small, cv2.COLOR_BGRA2BGR).astype(np.float32)  # drops the fourth channel
    labels = np.full(256, VOID, np.uint8)
    labels[: len(canvas.classes)] = canvas.classes
    planes = np.zeros((256, 3), np.float32)
    planes[: len(canvas.planes)] = canvas.planes
    nearness, b, c = (cv2.LUT(numbers, np.ascontiguousarray(planes[:, k])) for k in range(3))
    nearness *= np.arange(w, dtype=np.float32)
    b *= np.arange(h, dtype=np.float32)[:, None]
    nearness += b
    nearness += c
    np.clip(nearness, 0.0, 2.0, out=nearness)
    label = cv2.LUT(numbers, labels)
    return View(rgb, numbers, label, nearness, scene.camera), label


def _texture(view: View, canvas: Canvas, look: np.random.Generator) -> None:
    """Material noise: tied to the ground where there is ground, fine relief elsewhere; then cast shadows."""
    ground = view.ground
    noise = crop(surface_noise(), look, view.label.shape).astype(np.float32) * 0.055
    noise[view.label == SKY] = 0
    top = view.first_ground_row
    x, z = view.ground_position(top)
    fade = np.minimum(view.nearness[top:] * 14, 1)
    fine = cv2.remap(ground_noise(), x * 34, z * 34, cv2.INTER_NEAREST, borderMode=cv2.BORDER_WRAP)
    broad = cv2.remap(broad_noise(), x * 5.5, z * 2.5, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    gain = cv2.LUT(view.numbers[top:], np.array([0, 0.055, 0.05, 0.13] + [0] * 252, np.float32))
    dark = cv2.GaussianBlur(canvas.shade, (0, 0), 1.2)[top:] * np.float32(-0.58 / 255)
    fine *= fade
    fine += 0.8 * broad
    fine *= gain
    fine += dark
    np.copyto(noise[top:], fine, where=ground[top:])
    noise += 1
    view.rgb *= noise[..., None]
