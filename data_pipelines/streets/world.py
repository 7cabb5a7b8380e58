"""The random world: which street, what stands along it and what moves on it. Nothing here depends on weather.

Street coordinates: `u` metres to the right of the road's middle, `s` metres ahead of the camera along the road.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from data_pipelines.streets.camera import Camera
from data_pipelines.streets.draws import pick


@dataclass
class Scene:
    """One street: geometry, markings, colours, and the camera. Things on it are added by `streets.stage`."""

    camera: Camera
    world: str
    mirrored: bool
    bend: float  # 1 / m: curvature of the road
    left: float
    right: float
    ego: float
    lanes: list[tuple[float, int]]  # middle and direction (+1 away from the camera) of every lane
    parking: dict[int, float]  # width of the parking lane on each side, 0 without
    walk: dict[int, float]
    verge: dict[int, float]
    paved: dict[int, bool]
    zone: dict[int, str]
    junction: tuple[float, float] | None
    arms: tuple[int, ...]
    colours: dict[str, np.ndarray]
    bonnet: float
    edition: int
    lines: list = field(default_factory=list)
    dash: tuple[float, float] = (3.0, 9.0)
    phase: float = 0.0
    rails: list[float] = field(default_factory=list)
    crossings: list[tuple[float, float]] = field(default_factory=list)
    stops: list[tuple[float, float]] = field(default_factory=list)
    arrows: list = field(default_factory=list)
    patches: list = field(default_factory=list)
    manholes: list = field(default_factory=list)

    def points(self, u, s, y: float = 0.0) -> np.ndarray:
        """World points [..., 3] of street coordinates."""
        x = u + 0.5 * self.bend * np.square(s)
        place = np.empty((*np.shape(x), 3))
        place[..., 0], place[..., 1], place[..., 2] = x, y, s
        return place

    def edge(self, side: int) -> float:
        return self.right if side > 0 else self.left

    def free(self, s: float, margin: float = 3.0) -> bool:
        """Whether a place along the street is clear of the junction."""
        return self.junction is None or not self.junction[0] - margin < s < self.junction[1] + margin


ZONES = {
    "town": {"downtown": 0.42, "residential": 0.27, "park": 0.12, "works": 0.1, "open": 0.09},
    "city": {"downtown": 0.62, "residential": 0.08, "park": 0.12, "works": 0.1, "open": 0.08},
}


def sample_camera(rng: np.random.Generator, world: str, ego: float, size: tuple[int, int]) -> Camera:
    """Camera of a passenger car, or of a higher vehicle with a wider lens in the other city."""
    h, w = size
    if world == "city":
        height, field_of_view, pitch = rng.uniform(1.7, 2.7), rng.uniform(66, 88), rng.normal(0.09, 0.025)
    else:
        height, field_of_view, pitch = rng.uniform(1.15, 1.75), rng.uniform(42, 66), rng.normal(0.02, 0.025)
    focal = 0.5 * max(w, 1.5 * h) / np.tan(np.radians(field_of_view) / 2)
    return Camera(ego, height, rng.normal(0, 0.035), pitch, rng.normal(0, 0.008), focal, (w / 2 - 0.5, h / 2 - 0.5))


PARKING = {"downtown": 0.62, "residential": 0.62}  # probability of a parking lane; 0.2 elsewhere


def sample_scene(rng: np.random.Generator, world: str, size: tuple[int, int], edition: int) -> Scene:
    """The street itself: lanes, sides, markings and colours."""
    forward, backward = pick(rng, {1: 0.6, 2: 0.3, 3: 0.1}), pick(rng, {0: 0.15, 1: 0.65, 2: 0.2})
    lane, zone = rng.uniform(2.8, 3.7), {side: pick(rng, ZONES[world]) for side in (-1, 1)}
    if rng.random() < 0.6:
        zone[-1] = zone[1]
    parking = {side: float((rng.random() < PARKING.get(zone[side], 0.2)) * rng.uniform(2.0, 2.4)) for side in (-1, 1)}
    total = (forward + backward) * lane + parking[-1] + parking[1]
    start = parking[-1] - total / 2
    lanes = [(start + (k + 0.5) * lane, -1 if k < backward else 1) for k in range(forward + backward)]
    ego = lanes[int(rng.integers(backward, backward + forward))][0] + rng.normal(0, 0.15)
    walk, verge, paved = _sides(rng, zone)
    s0, junction, arms = rng.uniform(9, 48), None, ()
    if rng.random() < 0.5:
        junction, arms = (s0, s0 + rng.uniform(6, 13)), pick(rng, {(-1, 1): 0.5, (-1,): 0.25, (1,): 0.25})
    scene = Scene(
        camera=sample_camera(rng, world, ego, size),
        world=world,
        mirrored=bool(rng.random() < 0.3),
        bend=float(rng.normal(0, 0.0016)),
        left=-total / 2,
        right=total / 2,
        ego=ego,
        lanes=lanes,
        parking=parking,
        walk=walk,
        verge=verge,
        paved=paved,
        zone=zone,
        junction=junction,
        arms=arms,
        colours=_colours(rng, world, edition),
        bonnet=float((rng.random() < 0.12) * rng.uniform(0.03, 0.12)),
        edition=edition,
    )
    _mark(rng, scene, lane, backward, start)
    _wear(rng, scene)
    return scene


def _sides(rng: np.random.Generator, zone: dict[int, str]) -> tuple[dict, dict, dict]:
    """Per side: width of the pavement (verge included), width of the verge in it, and whether the ground beyond is paved."""
    walk, verge, paved = {}, {}, {}
    for side in (-1, 1):
        bare = zone[side] == "open" and rng.random() < 0.6
        width = 0.0 if bare else float(rng.uniform(1.8, 5.5) if zone[side] == "downtown" else rng.uniform(1.5, 3.2))
        verge[side] = float(rng.uniform(1.0, 2.2)) if width > 2.8 and rng.random() < 0.25 else 0.0
        paved[side] = zone[side] == "downtown" or (zone[side] == "works" and rng.random() < 0.5)
        walk[side] = width + verge[side]
    return walk, verge, paved


PAVING = ((168, 164, 158), (150, 144, 138), (176, 150, 128), (138, 140, 142), (190, 182, 168))
SOIL = {(104, 122, 62): 0.35, (92, 108, 56): 0.3, (124, 128, 74): 0.15, (140, 124, 88): 0.12, (112, 98, 72): 0.08}
YELLOW, SAND, WARM = np.array([206.0, 168, 60]), np.array([176.0, 150, 112]), np.array([8.0, 3, -6])
DASHES = ((3.0, 9.0), (1.5, 4.5), (4.0, 12.0), (2.0, 6.0))  # metres: painted, period


def _colours(rng: np.random.Generator, world: str, edition: int) -> dict[str, np.ndarray]:
    """Colours of the ground before light."""
    tint = rng.normal(0, 4, 3)
    asphalt = rng.uniform(112, 160) + WARM if world == "city" else np.full(3, rng.uniform(80, 138))
    paving, tone = np.array(pick(rng, PAVING), float), rng.random()
    if edition == 1:
        paving *= 0.75 + (1.08 - 0.75) * tone
    else:  # about as bright as the road: brighter or darker, seldom by more than a quarter
        paving *= asphalt.mean() / paving.mean() * 2 ** (0.74 * tone - 0.35)
    soil = SAND if world == "city" and rng.random() < 0.5 else np.array(pick(rng, SOIL), float)
    return {
        "road": asphalt + tint,
        "paving": paving + tint,
        "soil": soil * rng.uniform(0.75, 1.1),
        "kerb": paving * 0.5 + rng.uniform(70, 105),
        "paint": rng.uniform(165, 240) + np.array([2.0, 1, -4]),
    }


def _mark(rng: np.random.Generator, scene: Scene, lane: float, backward: int, start: float) -> None:
    """Lines, crossings, stop lines, arrows and tram rails."""
    white, marked = scene.colours["paint"], rng.random() > 0.18 or len(scene.lanes) > 2
    yellow = YELLOW if rng.random() < (0.75 if scene.world == "city" else 0.15) else white
    scene.dash, scene.phase = pick(rng, DASHES), float(rng.uniform(-6, 3))
    middle = pick(rng, ("dash", "solid", "double"))
    for k in range(1, len(scene.lanes) if marked else 1):
        scene.lines.append((start + k * lane, *((middle, yellow) if k == backward else ("dash", white))))
    for side in (-1, 1):
        colour = yellow if side < 0 and rng.random() < 0.3 else white
        if rng.random() < (0.3 if scene.walk[side] else 0.95) and marked:
            scene.lines.append((scene.edge(side) - side * (scene.parking[side] + 0.2), "solid", colour))
    ahead = [u for u, way in scene.lanes if way > 0]
    if scene.junction and rng.random() < 0.65:
        scene.crossings.append((scene.junction[0] - 4.2, 2.8))
        scene.stops += [(u, scene.junction[0] - 5.6) for u in ahead]
    elif not scene.junction and rng.random() < 0.22:
        scene.crossings.append((float(rng.uniform(6, 30)), 3.2))
    if marked and rng.random() < 0.3:
        scene.arrows = [(u, float(rng.uniform(5, 20)), int(rng.integers(-1, 2))) for u in ahead]
    if rng.random() < 0.16:
        track = pick(rng, scene.lanes)[0]
        scene.rails = [track - 0.72, track + 0.72]


def _wear(rng: np.random.Generator, scene: Scene) -> None:
    count = int(rng.integers(0, 7))
    for u, s, wide, long, tone in zip(
        rng.uniform(scene.left, scene.right - 1, count),
        rng.uniform(2, 35, count),
        rng.uniform(0.4, 2.5, count),
        rng.uniform(1, 9, count),
        rng.uniform(0.78, 1.15, count),
        strict=True,
    ):
        scene.patches.append((u, s, min(wide, scene.right - u), long, tone))
    for _ in range(int(rng.integers(0, 4))):
        scene.manholes.append((rng.uniform(scene.left + 0.6, scene.right - 0.6), rng.uniform(4, 25)))
