// Scores pictures with an export in ONNX, without Python:
//
//     npm install onnxruntime-node pngjs jpeg-js
//     node clients/score.mjs EXPORT PICTURE…
//
// A line of JSON for each picture, PNG or JPEG.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const require = createRequire(join(process.cwd(), "package.json")); // packages of the folder it is called in
const ort = require("onnxruntime-node");

/** The picture in a file, as bytes of red, green and blue; what is transparent is laid on black. */
function decoded(path) {
  const bytes = readFileSync(path);
  const isPng = bytes[0] === 0x89;
  const { width, height, data } = isPng
    ? require("pngjs").PNG.sync.read(bytes)
    : require("jpeg-js").decode(bytes, { useTArray: true });
  const colours = new Uint8Array(width * height * 3);
  for (let i = 0; i < width * height; i++) {
    for (let c = 0; c < 3; c++) colours[3 * i + c] = Math.round((data[4 * i + c] * data[4 * i + 3]) / 255);
  }
  return new ort.Tensor("uint8", colours, [1, height, width, 3]);
}

const [folder, ...pictures] = process.argv.slice(2);
const description = JSON.parse(readFileSync(join(folder, "model.json")));
const session = await ort.InferenceSession.create(join(folder, "model.onnx"));
for (const path of pictures) {
  const outputs = await session.run({ pictures: decoded(path) });
  const number = (name) => Number(outputs[name].data[0]);
  console.log(
    JSON.stringify({
      id: path,
      anomaly_score: number("anomaly_score"),
      p_value: number("p_value"),
      decision: description.decisions[number("decision")],
    }),
  );
}
