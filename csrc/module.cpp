// evenconv_cuda._C: what the binary is. The operators are reached through torch.ops.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "cpu/isa.h"

PYBIND11_MODULE(_C, m) {
  m.doc() = "The compiled half of evenconv_cuda. Importing it registers torch.ops.evenconv_cuda.";
  m.def(
      "build_info",
      [] {
        std::vector<std::string> available;
        for (const evenconv::Kernels* kernels : evenconv::available_kernels()) available.push_back(kernels->isa);
        pybind11::dict info;
        info["version"] = EVENCONV_VERSION;
        info["torch"] = EVENCONV_TORCH_VERSION;
        info["compiler"] = __VERSION__;
        info["cpu_isa"] = evenconv::kernels().isa;
        info["cpu_isa_available"] = available;
        info["cuda"] = false;
        info["cuda_architectures"] = std::vector<std::string>();
        return info;
      },
      "What this binary was built from and runs on: version, torch (built against), compiler, cpu_isa (in use), "
      "cpu_isa_available, cuda (whether its kernels are in), cuda_architectures.");
  m.def(
      "set_cpu_isa",
      [](const std::string& isa) {
        if (!evenconv::select_kernels(isa))
          throw pybind11::value_error("isa is '" + isa + "'; accepted are those of build_info()['cpu_isa_available']");
      },
      pybind11::arg("isa"), "Run the CPU kernels of this instruction set from now on, in every thread.");
}
