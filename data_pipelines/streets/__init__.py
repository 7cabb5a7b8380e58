"""Procedural street scenes seen from a car: the embedded data set `streets`.

From an index to a picture: `world` draws the street, `stage` what stands on it, `render` paints both far to near on a
`canvas` whose pixels carry a colour and an object number, so that the label map is exact; light (`light`), weather
(`weather`) and camera electronics (`sensor`) follow per pixel from the object's class and its plane of inverse depth.
No picture of any other data set is used. The second edition takes from class statistics of CamVid's training frames how bright pavements
are against the road and how dark fences are; `edition=1` draws the first.

Parameters of the world (metres; p = probability), town / other city where they differ:

* Camera: height 1.15-1.75 / 1.7-2.7, field of view 42-66 / 66-88 degrees, pitch 1 / 5 degrees down (sd 1.4), own
  bonnet p 0.12 (void).
* Road: 1-3 lanes ahead, 0-2 towards the camera, 2.8-3.7 wide, curvature sd 0.0016 per metre, parking lanes, tram
  rails p 0.16, junction p 0.5 with one or two arms, zebra crossings, stop lines, arrows, dashed, solid and double
  lines, patches, manholes; p 0.3 mirrored (traffic on the left).
* Sides: downtown, residential, park, works and open land, with pavements of 1.5-5.5, verges, hedges, walls, fences
  and guard rails.
* Buildings: 40 facade layouts x 300 palettes per world, 4.5-20 / 9-42 high, flat or pitched roofs; trees: broad-
  leaved, conifers, palms, bare.
* Things: eight car bodies in sixteen paints, lorries, buses, trams, riders, people, parked bicycles and motorcycles,
  lamps, poles, signals, signs; bins and boxes are void.
* Light: closed sky p 0.35 / 0.25, else sun 22-68 degrees high from any side with cast shadows; exposure, white
  balance, gamma, saturation, blur, vignette and noise vary in every style.
* Weather: fog 0.012-0.055 per metre; rain with a wet, mirroring road, streaks and drops; snow on ground and edges,
  flakes; night with street lamps, lit windows, head and tail lights.
"""

from data_pipelines.streets.source import STYLES, Streets

__all__ = ["STYLES", "Streets"]
