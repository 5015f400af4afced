// evenconv_cuda._C: what the binary is, and how its kernels are laid out. The operators are reached through torch.ops.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <sstream>

#include "cpu/isa.h"
#include "cuda/plan.h"
#include "device.h"

namespace py = pybind11;

namespace {

py::dict build_info() {
  std::vector<std::string> isas, architectures;
  for (const evenconv::Kernels* kernels : evenconv::available_kernels()) isas.push_back(kernels->isa);
  std::istringstream list(EVENCONV_CUDA_ARCHITECTURES);
  for (std::string name; list >> name;) architectures.push_back(name);
  py::dict info;
  info["version"] = EVENCONV_VERSION;
  info["torch"] = EVENCONV_TORCH_VERSION;
  info["compiler"] = __VERSION__;
  info["cpu_isa"] = evenconv::kernels().isa;
  info["cpu_isa_available"] = isas;
  info["cuda"] = !architectures.empty();
  info["cuda_architectures"] = architectures;
  return info;
}

void set_cpu_isa(const std::string& isa) {
  if (!evenconv::select_kernels(isa))
    throw py::value_error("isa is '" + isa + "'; accepted are those of build_info()['cpu_isa_available']");
}

void set_host_device(const std::optional<py::capsule>& device) {
  evenconv::set_host_device(device ? device->get_pointer<const evenconv::Device>() : nullptr);
}

// A chain whose tensors are dense and aligned: what a plan depends on.
evenconv::ChainParams chain_of(const std::array<int64_t, 4>& shape, const std::string& dtype, bool channels_last,
                               int even, int row, int column, const std::array<int, 2>& stride) {
  evenconv::ChainParams p{};
  p.N = shape[0], p.C = shape[1], p.H = shape[2], p.W = shape[3];
  p.stride_h = stride[0], p.stride_w = stride[1];
  const std::pair<const char*, evenconv::Dtype> dtypes[] = {{"float32", evenconv::Dtype::float32},
                                                            {"float64", evenconv::Dtype::float64},
                                                            {"float16", evenconv::Dtype::float16},
                                                            {"bfloat16", evenconv::Dtype::bfloat16}};
  bool found = false;
  for (const auto& [name, value] : dtypes)
    if (dtype == name) p.dtype = p.weight_dtype = value, found = true;
  if (!found) throw py::value_error("dtype is '" + dtype + "'; accepted are float32, float64, float16 and bfloat16");
  if (even) p.stage[p.stages++] = {nullptr, nullptr, &p, nullptr, even, even};
  if (row) p.stage[p.stages++] = {nullptr, nullptr, &p, nullptr, 1, row};
  if (column) p.stage[p.stages++] = {nullptr, nullptr, &p, nullptr, column, 1};
  const auto dense = [&](int64_t H, int64_t W) -> evenconv::View {
    if (channels_last) return {nullptr, {p.C * H * W, 1, p.C * W, p.C}};
    return {nullptr, {p.C * H * W, H * W, W, 1}};
  };
  p.x = p.dx = dense(p.H, p.W);
  p.y = dense((p.H + stride[0] - 1) / stride[0], (p.W + stride[1] - 1) / stride[1]);
  return p;
}

py::dict cuda_plan(const std::array<int64_t, 4>& shape, const std::string& dtype, bool channels_last, int even, int row,
                   int column, const std::array<int, 2>& stride, bool backward) {
  const evenconv::cuda::Plan plan =
      evenconv::cuda::make_plan(chain_of(shape, dtype, channels_last, even, row, column, stride), backward);
  py::dict dict;
  dict["even"] = plan.even;
  dict["band"] = plan.band;
  dict["unit_bytes"] = plan.unit;
  dict["columns"] = plan.columns;
  dict["lanes"] = plan.lanes;
  dict["images"] = plan.images;
  dict["units"] = plan.units;
  dict["tiles"] = plan.tiles;
  dict["threads"] = plan.threads;
  dict["blocks"] = plan.blocks();
  dict["channel_blocks"] = plan.channel_blocks;
  dict["column_halo"] = plan.column_halo;
  dict["column_tile"] = plan.column_tile;
  dict["column_tiles"] = plan.column_tiles;
  dict["band_rows"] = plan.band_rows;
  dict["bands"] = plan.bands;
  dict["images_per_chunk"] = plan.images_per_chunk;
  dict["chunks"] = plan.chunks;
  dict["splits"] = plan.splits();
  dict["gradients"] = plan.gradients;
  dict["shared_bytes"] = plan.shared_bytes;
  dict["x_piece"] = plan.x_piece;
  dict["y_piece"] = plan.y_piece;
  dict["dx_piece"] = plan.dx_piece;
  const evenconv::cuda::Steps steps = evenconv::cuda::steps_of(plan, 0, plan.band_rows);
  dict["steps"] = steps.end - steps.begin;
  dict["step_rows"] = evenconv::cuda::kStepRows;
  return dict;
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "The compiled half of evenconv_cuda. Importing it registers torch.ops.evenconv_cuda.";
  m.def("build_info", &build_info,
        "What this binary was built from and runs on: version, torch (built against), compiler, cpu_isa (in use), "
        "cpu_isa_available, cuda (whether its kernels are in), cuda_architectures.");
  m.def("set_cpu_isa", &set_cpu_isa, py::arg("isa"),
        "Run the CPU kernels of this instruction set from now on, in every thread.");
  m.def(
      "set_host_device", &set_host_device, py::arg("device"),
      "What runs CPU tensors from now on, in every thread: the device of evenconv_cuda._cuda_on_host, or None for the "
      "CPU's kernels.");
  m.def("cuda_plan", &cuda_plan, py::arg("shape"), py::arg("dtype"), py::arg("channels_last") = false,
        py::arg("even") = 0, py::arg("row") = 0, py::arg("column") = 0, py::arg("stride") = std::array<int, 2>{1, 1},
        py::arg("backward") = false,
        "How the CUDA kernels cut a chain of dense tensors into blocks and threads (csrc/cuda/plan.h); even, row and "
        "column are kernel sizes, 0 for none.");
}
