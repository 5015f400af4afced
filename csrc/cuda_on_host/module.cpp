// evenconv_cuda._cuda_on_host: the CUDA kernels on the CPU, in a binary of its own that only tests need.
#include <pybind11/pybind11.h>

#include "device.h"
#include "emulator.h"

namespace py = pybind11;

namespace evenconv {
namespace {

void set_order(const std::string& order, uint64_t seed) {
  if (order == "forward") return host::set_order(host::Order::forward);
  if (order == "reverse") return host::set_order(host::Order::reverse);
  if (order == "shuffled") return host::set_order(host::Order::shuffled, seed);
  throw py::value_error("order is '" + order + "'; accepted are forward, reverse and shuffled");
}

py::dict counters() {
  const host::Counters count = host::counters();
  py::dict dict;
  dict["launches"] = count.launches;
  dict["bytes_read"] = count.bytes_read;
  dict["bytes_written"] = count.bytes_written;
  dict["sectors_read"] = count.sectors_read;
  dict["sectors_written"] = count.sectors_written;
  dict["requests_read"] = count.requests_read;
  dict["requests_written"] = count.requests_written;
  dict["shared_requests"] = count.shared_requests;
  dict["shared_conflicts"] = count.shared_conflicts;
  dict["barriers"] = count.barriers;
  return dict;
}

}  // namespace
}  // namespace evenconv

PYBIND11_MODULE(_cuda_on_host, m) {
  m.doc() = "The CUDA kernels on the CPU: what runs them, their orders and counters.";
  m.attr("device") = py::capsule(&evenconv::kCudaOnHostDevice);
  m.def("set_order", &evenconv::set_order, py::arg("order"), py::arg("seed") = 0,
        "The order of threads and blocks: forward, reverse or shuffled.");
  m.def("set_counting", &evenconv::host::set_counting, py::arg("counting"), "Whether memory traffic is counted.");
  m.def("reset_counters", &evenconv::host::reset_counters, "All counters to 0.");
  m.def("counters", &evenconv::counters, "What was counted (csrc/cuda_on_host/emulator.h).");
}
