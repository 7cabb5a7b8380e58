"""Buildings: facades from a library of material maps, side walls, roofs, and distant skylines."""

from __future__ import annotations

from functools import cache

import numpy as np

from data_pipelines.streets.canvas import Canvas
from data_pipelines.streets.draws import pick
from data_pipelines.streets.textures import fixed_rng, frozen

BUILDING = 2
WALL, ACCENT, TRIM, FRAME, DOOR, SHOP, AWNING, SIGN, BASE, JOINT, SILL, BALCONY = range(12)
GLASS = 12  # 12..17: six kinds of window, so that neighbours differ
MATERIALS = 18
ROOFS = ((110, 70, 58), (84, 80, 80), (134, 84, 62), (62, 66, 74), (150, 130, 110))
PALETTES = 300
BAYS, FLOORS = 12, 9  # of a material map; a building takes as many as it needs
LIBRARY = {"town": 40, "city": 40}


@cache
def material_map(world: str, entry: int) -> tuple[np.ndarray, np.ndarray, int, int]:
    """(upper floors, ground floor, bay width, floor height): uint8 material maps, pixels at about 10 to the metre."""
    rng = fixed_rng(20, *world.encode(), entry)
    bay, floor = int(rng.integers(18, 42)), int(rng.integers(26, 36))
    glassy = rng.random() < (0.3 if world == "city" else 0.07)
    upper = np.concatenate([_storey(rng, bay, floor, *_window(rng, bay, floor, glassy)) for _ in range(1)])
    upper = np.tile(upper, (FLOORS, BAYS))
    kinds = rng.integers(0, 6, (FLOORS, BAYS)).astype(np.uint8).repeat(floor, 0).repeat(bay, 1)
    upper = np.where(upper == GLASS, GLASS + kinds, upper).astype(np.uint8)
    return frozen(upper), frozen(_ground_floor(rng, bay, upper[:floor])), bay, floor


def _window(rng: np.random.Generator, bay: int, floor: int, glassy: bool) -> tuple[float, float, float, float]:
    """Left, right, top, bottom of the window within its bay, as fractions."""
    if glassy:
        return 0.04, 0.96, 0.06, rng.uniform(0.8, 0.95)
    width = min(0.85, rng.uniform(8, 16) / bay) if bay < 30 else rng.uniform(0.4, 0.8)
    left = (1 - width) / 2
    return left, left + width, rng.uniform(0.12, 0.25), rng.uniform(0.6, 0.82)


def _storey(rng: np.random.Generator, bay: int, floor: int, left: float, right: float, top: float, bottom: float) -> np.ndarray:
    cell = np.full((floor, bay), WALL, np.uint8)
    style = rng.random(6)
    if style[0] < 0.35:
        cell[:: int(rng.integers(3, 7))] = JOINT
    if style[1] < 0.35:
        cell[-int(rng.integers(1, 4)) :] = TRIM
    if style[2] < 0.25:
        cell[:, : int(rng.integers(1, 4))] = ACCENT
    x0, x1, y0, y1 = int(left * bay), max(int(right * bay), int(left * bay) + 5), int(top * floor), int(bottom * floor)
    if style[3] < 0.6:
        cell[max(y0 - 2, 0) : y1 + 1, max(x0 - 2, 0) : x1 + 2] = TRIM
    cell[y0:y1, x0:x1] = FRAME
    cell[y0 + 1 : y1 - 1, x0 + 1 : x1 - 1] = GLASS
    if style[4] < 0.6 and x1 - x0 > 6:
        cell[y0:y1, (x0 + x1) // 2] = FRAME
    if style[4] > 0.35:
        cell[y0 + (y1 - y0) // 3, x0:x1] = FRAME
    cell[y1 : y1 + 2, max(x0 - 1, 0) : x1 + 1] = SILL
    if style[5] < 0.18:
        cell[int(0.62 * floor) : int(0.95 * floor), 1:-1] = BALCONY
    elif style[5] > 0.85 and x0 > 4:
        cell[y0:y1, x0 - 4 : x0 - 1] = ACCENT
        cell[y0:y1, x1 + 1 : x1 + 4] = ACCENT
    return cell


def _ground_floor(rng: np.random.Generator, bay: int, storey: np.ndarray) -> np.ndarray:
    height = int(rng.integers(30, 44))
    ground = np.full((height, bay * BAYS), BASE if rng.random() < 0.5 else WALL, np.uint8)
    shops = rng.random() < 0.55
    if shops:
        ground[:7] = SIGN if rng.random() < 0.7 else TRIM
    for k in range(BAYS):
        x = k * bay
        if shops:
            ground[9:-4, x + 2 : x + bay - 2] = FRAME
            ground[10:-5, x + 3 : x + bay - 3] = SHOP if rng.random() < 0.8 else DOOR
            if rng.random() < 0.25:
                ground[8:15, x + 1 : x + bay - 1] = AWNING
        elif rng.random() < 0.25:
            middle = x + bay // 2
            ground[height - 24 :, middle - 6 : middle + 6] = FRAME
            ground[height - 22 :, middle - 4 : middle + 4] = DOOR
        else:
            top = height - storey.shape[0]
            window = storey[max(-top, 0) :, x : x + bay]
            ground[max(top, 0) :, x : x + bay] = np.where(window == WALL, ground[max(top, 0) :, x : x + bay], window)
    ground[-3:] = BASE
    return ground


WALLS = {
    "town": (
        (186, 170, 148),
        (205, 196, 178),
        (150, 92, 74),
        (128, 74, 60),
        (172, 158, 140),
        (214, 202, 168),
        (196, 150, 120),
        (140, 138, 134),
        (222, 218, 210),
        (168, 176, 180),
        (120, 112, 104),
        (200, 180, 130),
        (176, 120, 96),
        (108, 96, 88),
    ),
    "city": (
        (206, 178, 136),
        (226, 214, 190),
        (160, 166, 172),
        (96, 104, 116),
        (182, 140, 110),
        (120, 126, 128),
        (236, 230, 220),
        (150, 168, 178),
        (216, 170, 150),
        (88, 84, 82),
        (170, 190, 170),
        (70, 82, 100),
    ),
}


@cache
def palette(world: str, entry: int, night: bool) -> np.ndarray:
    """Colours [MATERIALS, 4] float32 of a kind of building; the fourth channel is 255 for windows with light behind them."""
    rng = fixed_rng(21, *world.encode(), entry)
    wall = np.array(pick(rng, WALLS[world])) * rng.uniform(0.72, 1.1) + rng.normal(0, 9, 3)
    light_trim = rng.random() < 0.6
    colours = np.zeros((MATERIALS, 4), np.float32)
    colours[:, :3] = wall
    colours[ACCENT, :3] = wall * rng.uniform(0.6, 1.2) + rng.normal(0, 12, 3)
    colours[TRIM, :3] = wall * 0.4 + 140 if light_trim else wall * rng.uniform(0.75, 0.95)
    colours[FRAME, :3] = pick(rng, (225, 200, 70, 50, 110)) + rng.normal(0, 6, 3)
    colours[DOOR, :3] = rng.uniform(25, 130, 3)
    colours[SHOP, :3] = rng.uniform(28, 95) + rng.normal(0, 8, 3)
    for material in (AWNING, SIGN):
        grey = rng.uniform(30, 225)
        colours[material, :3] = grey + (rng.uniform(20, 235, 3) - grey) * rng.beta(1.2, 1.2)
    colours[BASE, :3] = wall * rng.uniform(0.55, 0.85)
    colours[JOINT, :3] = wall * rng.uniform(0.86, 0.97)
    colours[SILL, :3] = wall * 0.5 + 100 if light_trim else wall * 0.7
    colours[BALCONY, :3] = rng.uniform(60, 215) + rng.normal(0, 6, 3)
    glass = rng.uniform(35, 95) + rng.normal(0, 5, 3) + np.array([-6, 0, 8])
    colours[GLASS:, :3] = glass + rng.uniform(-22, 60, (6, 1)) * rng.random((6, 1)) + rng.normal(0, 4, (6, 3))
    if night:
        _light_windows(rng, colours)
    return frozen(colours)


def _light_windows(rng: np.random.Generator, colours: np.ndarray) -> None:
    on = GLASS + np.flatnonzero(rng.random(6) < rng.uniform(0.05, 0.5))
    colours[on, :3] = np.array([235, 190, 120]) * rng.uniform(0.5, 1.0, (len(on), 1)) + rng.normal(0, 12, (len(on), 3))
    colours[on, 3] = 255
    if rng.random() < 0.6:
        colours[SHOP] = (*np.array([240, 215, 165]) * rng.uniform(0.55, 1.0), 255)


class Building:
    """One building: `front` runs from `start` to `end` (ground points), `depth` metres away from the street."""

    def __init__(self, rng: np.random.Generator, world: str, start, end, away, height: float, depth: float, roof: str):
        self.start, self.end, self.away = np.asarray(start, float), np.asarray(end, float), np.asarray(away, float)
        self.height, self.depth, self.roof, self.world = height, depth, roof, world
        self.entry, self.palette = int(rng.integers(LIBRARY[world])), int(rng.integers(PALETTES))
        self.tint = rng.normal(1, 0.03, 3) * rng.uniform(0.85, 1.12)
        self.tiles = np.array(pick(rng, ROOFS)) * rng.uniform(0.7, 1.1)
        self.blank, self.side = rng.random() < 0.5, True

    def paint(self, canvas: Canvas) -> None:
        colours = palette(self.world, self.palette, canvas.light.style == "night")
        if self.roof == "pitched":
            self._pitched(canvas, colours, self.tiles)
        if self.side:
            self._wall(canvas, self.start, self.start + self.depth * self.away, colours, self.blank)
        self._wall(canvas, self.start, self.end, colours, False)

    def _wall(self, canvas: Canvas, near: np.ndarray, far: np.ndarray, colours: np.ndarray, blank: bool) -> None:
        up = np.array([0, self.height, 0])
        corners = canvas.project(np.array([near + up, far + up, far, near]))
        along = far - near
        normal = np.array([along[2], 0, -along[0]]) / max(np.hypot(along[0], along[2]), 1e-6)
        if corners is None or abs(np.dot(normal, canvas.camera.position - near)) < 0.05 or canvas.window(corners) is None:
            return
        if np.dot(normal, canvas.camera.position - near) < 0:
            normal = -normal
        plane = canvas.camera.inverse_depth(normal, float(normal @ near))
        number = canvas.number(BUILDING, plane=plane)
        tone = canvas.light.on(normal)
        if blank:
            canvas.fill(corners, colours[WALL, :3] * self.tint * tone, number)
            return
        lit = canvas.number(BUILDING, plane=plane, shine=1.0) if colours[:, 3].any() else number
        texture = self._materials(float(np.linalg.norm(along)))
        skip = [max(1, int(n / (1.6 * (np.ptp(corners[:, k]) + 2)))) for n, k in zip(texture.shape, (1, 0), strict=True)]
        texture = texture[:: skip[0], :: skip[1]]
        gain = np.where(colours[:, 3:] > 0, 1.0, np.append(tone * self.tint, 1.0))
        lut = np.minimum(colours * gain, 255).astype(np.uint8)
        painted = lut.view(np.uint32)[:, 0][texture].view(np.uint8).reshape(*texture.shape, 4)
        canvas.texture(corners, painted, number, lit)

    def _materials(self, length: float) -> np.ndarray:
        """The material map of a wall of some length in metres, whole bays and floors only."""
        upper, ground, bay, floor = material_map(self.world, self.entry)
        bays = int(np.clip(round(length * 10 / bay), 1, BAYS))
        floors = int(np.clip(round((self.height * 10 - ground.shape[0]) / floor), 0, FLOORS))
        cornice = np.full((4, bays * bay), TRIM, np.uint8)
        return np.concatenate([cornice, upper[: floors * floor, : bays * bay], ground[:, : bays * bay]])

    def _pitched(self, canvas: Canvas, colours, roof) -> None:
        """Roof with the ridge parallel to the street, and the gable on the near end."""
        up, ridge = np.array([0, self.height, 0]), np.array([0, self.height + 0.38 * self.depth, 0])
        middle, back = 0.5 * self.depth * self.away, self.depth * self.away
        overhang = -0.4 * self.away
        near, far = self.start, self.end
        number = canvas.number(BUILDING, float(np.clip(near[2], 1, 300)) + 2)
        wall, sky = colours[0, :3].astype(float), np.array([0, 1.0, 0])
        slope = canvas.light.on((sky - self.away) / np.sqrt(2))
        gable = np.array([near + up + overhang, near + ridge + middle, near + up + back])
        canvas.polygon(gable, wall * canvas.light.on((near - far) / np.linalg.norm(near - far)), number)
        eaves = near + up + overhang, far + up + overhang
        canvas.polygon(np.array([*eaves, far + up, near + up]), roof * slope * 0.45, number)
        canvas.polygon(np.array([*eaves, far + ridge + middle, near + ridge + middle]), roof * slope, number)
        bottom = near + ridge + middle
        chimney = bottom + np.array([[0, 0, 1.5], [0, 1.3, 1.5], [0, 1.3, 2.3], [0, 0, 2.3]])
        canvas.polygon(chimney, roof * 0.8, number)


def skyline(canvas: Canvas, rng: np.random.Generator, distance: float, heights: tuple[float, float], density: float) -> None:
    """Far blocks of buildings along the horizon, at one distance."""
    number = canvas.number(BUILDING, distance)
    x = -1.2 * distance
    while x < 1.2 * distance:
        width, height = rng.uniform(10, 34) * distance / 150, rng.uniform(*heights)
        tint = rng.uniform(95, 190) + rng.normal(0, 8, 3)
        if rng.random() < density:
            box = np.array([[x, 0, distance], [x + width, 0, distance], [x + width, height, distance], [x, height, distance]])
            canvas.polygon(box, tint * canvas.light.on((0, 0, -1)), number)
        x += width * rng.uniform(0.6, 1.1)
