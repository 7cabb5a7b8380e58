"""The ground: road, markings, crossings, junctions, kerbs, pavements, grass; painted flat here and textured per pixel later."""

from __future__ import annotations

import numpy as np

from data_pipelines.streets.canvas import Canvas
from data_pipelines.streets.vehicles import hull_shadow
from data_pipelines.streets.world import Scene

ROAD, SIDEWALK, TERRAIN = 0, 1, 9
REACH = np.geomspace(0.6, 260, 26)


class Ground:
    """Paints the ground of a scene; object numbers 1 to 3 are road, pavement and terrain."""

    def __init__(self, canvas: Canvas, scene: Scene):
        self.canvas, self.scene = canvas, scene
        plane = canvas.camera.inverse_depth((0.0, 1.0, 0.0), 0.0)
        self.road, self.walk, self.soil = (canvas.number(label, plane=plane) for label in (ROAD, SIDEWALK, TERRAIN))
        self.tone = canvas.light.on((0, 1, 0))

    def strip(self, u0: float, u1: float, colour, number: int, s0: float = 0.6, s1: float = 260.0) -> None:
        """A band between two lateral positions along the street."""
        s = np.concatenate([[s0], REACH[(REACH > s0) & (REACH < s1)], [s1]])
        ring = np.concatenate([self.scene.points(u0, s), self.scene.points(u1, s[::-1])])
        self.canvas.polygon(ring, np.asarray(colour) * self.tone, number)

    def paint(self) -> None:
        scene, look = self.scene, self.scene.colours
        far = np.array([[-600, 0, 0.5], [600, 0, 0.5], [900, 0, 700], [-900, 0, 700]], float)
        self.canvas.polygon(far, look["soil"] * self.tone, self.soil)
        for side in (-1, 1):
            edge, width = scene.edge(side), scene.walk[side]
            if scene.paved[side]:
                self.strip(edge, edge + side * 40, look["paving"] * 0.97, self.walk)
            if width > 0:
                self.strip(edge, edge + side * width, look["paving"], self.walk)
            if scene.verge[side] > 0:
                start = edge + side * 0.3
                self.strip(start, start + side * scene.verge[side], look["soil"] * 1.04, self.soil)
        self.strip(scene.left, scene.right, look["road"], self.road)
        for side in (-1, 1):
            if scene.walk[side] > 0:
                edge = scene.edge(side)
                self.strip(edge, edge + side * 0.16, look["kerb"], self.walk)
                self.strip(edge - side * 0.25, edge, look["road"] * 0.86, self.road)
        if scene.junction:
            self._junction()
        self._patches()
        self._markings()

    def _quad(self, u0, s0, u1, s1, colour, number) -> None:
        """One or many (any of the four may be arrays of one length) rectangles in street coordinates."""
        u0, s0, u1, s1 = np.broadcast_arrays(u0, s0, u1, s1)
        corners = self.scene.points(np.stack([u0, u1, u1, u0], -1), np.stack([s0, s0, s1, s1], -1)).reshape(-1, 4, 3)
        self.canvas.polygons(corners, np.broadcast_to(np.asarray(colour) * self.tone, (len(corners), 3)), number)

    def _junction(self) -> None:
        scene, look = self.scene, self.scene.colours
        s0, s1 = scene.junction
        for side in scene.arms:
            edge, out = scene.edge(side), side * 160
            self._quad(edge, s0 - 3, out, s1 + 3, look["paving"], self.walk)
            self._quad(edge, s0, out, s1, look["road"] * 0.98, self.road)
            for near, s in ((-3.0, s0), (3.0, s1)):
                corner = scene.points(
                    np.array([edge - side * 0.2, edge + side * 3.5, edge - side * 0.2]), np.array([s + near, s, s])
                )
                self.canvas.polygon(corner, look["road"] * self.tone, self.road)
                self._quad(edge + side * 3.5, s - 0.1, out, s + 0.1, look["kerb"], self.walk)
            self._quad(edge + side * 6, (s0 + s1) / 2 - 0.07, side * 90, (s0 + s1) / 2 + 0.07, look["paint"], self.road)

    def _patches(self) -> None:
        scene = self.scene
        for u, s, wide, long, tone in scene.patches:
            self._quad(u, s, u + wide, s + long, scene.colours["road"] * tone, self.road)
        for u, s in scene.manholes:
            angle = np.linspace(0, 2 * np.pi, 11)[:-1]
            self.canvas.polygon(
                scene.points(u + 0.33 * np.cos(angle), s + 0.33 * np.sin(angle)),
                scene.colours["road"] * 0.7 * self.tone,
                self.road,
            )

    def _markings(self) -> None:
        scene, paint = self.scene, self.scene.colours["paint"]
        for u, kind, colour in scene.lines:
            gap = scene.junction or (0.0, 0.0)
            if kind == "dash":
                on, period = scene.dash
                s = np.arange(scene.phase, 90, period)
                s = s[(s > 0.5) & ((s < gap[0] - on) | (s > gap[1]))]
                self._quad(u - 0.07, s, u + 0.07, s + on, colour, self.road)
                continue
            for shift in (-0.12, 0.12) if kind == "double" else (0.0,):
                pieces = ((0.6, gap[0] - 1.5), (gap[1] + 1.5, 200.0)) if scene.junction else ((0.6, 200.0),)
                for a, b in pieces:
                    if b > a + 0.5:
                        self.strip(u + shift - 0.06, u + shift + 0.06, colour, self.road, max(a, 0.6), b)
        for rail in scene.rails:
            self.strip(rail - 0.06, rail + 0.06, scene.colours["road"] * 0.5 + 25, self.road)
        for s, wide in scene.crossings:
            u = np.arange(scene.left + 0.4, scene.right - 0.4, 1.0)
            self._quad(u, s, u + 0.5, s + wide, paint, self.road)
        for u, s in scene.stops:
            self._quad(u - 1.5, s, u + 1.5, s + 0.35, paint, self.road)
        for u, s, turn in scene.arrows:
            self._quad(u - 0.08, s, u + 0.08, s + 2.4, paint, self.road)
            tip = scene.points(np.array([u - 0.4, u + 0.4, u + 0.9 * turn]), np.array([s + 2.4, s + 2.4, s + 4.0]))
            self.canvas.polygon(tip, paint * self.tone, self.road)

    def facade_shadows(self, buildings) -> None:
        """Shadows of buildings on the ground; called before anything that adds softer ones."""
        light = self.canvas.light
        if light.sun_power < 0.15:
            return
        for building in buildings:
            base = np.stack(
                [
                    building.start,
                    building.end,
                    building.end + building.depth * building.away,
                    building.start + building.depth * building.away,
                ]
            )
            self.canvas.shadow(hull_shadow(base, light.cast * building.height), int(165 * light.sun_power))
