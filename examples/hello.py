"""Hello, graph: a kernel of one's own, in a graph, compiled and run. No GPU is needed."""

import forerun


@forerun.kernel("w: f32[N], x: f32[N] -> y: f32[N]")
def scale(w, x):
    return w * x


build = forerun.GraphBuilder("hello")
w, x, y = build.weight("w", "f32", 4), build.input("x", "f32", 4), build.output("y", "f32", 4)
build.launch(scale, w, x, y)
with forerun.compile(build.build(), weights={"w": [1, 10, 100, 1000]}) as program:
    print(program.graph)
    print(program(x=[1, 2, 3, 4])["y"])
