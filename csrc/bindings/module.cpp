// Python sees raw addresses, shapes and names; vsae_fast/ops checks and owns the tensors behind them. The GIL is
// released while a kernel runs.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "bindings/addresses.h"
#include "bindings/gaussian_mixture.h"
#include "bindings/latent_classes.h"
#include "bindings/numbers.h"
#include "bindings/proposals.h"
#include "bindings/score_curves.h"
#include "bindings/signals.h"
#include "bindings/training.h"
#include "bindings/training_ops.h"
#include "cpu/cpu_level.h"
#include "cpu/fma_peak.h"
#include "cpu/importance_impute.h"
#include "cpu/packed_layer.h"
#include "cpu/round_trip.h"

namespace py = pybind11;

namespace {

using vsae::at;

vsae::CpuLevel level_or_active(const std::string& name) {
    return name.empty() ? vsae::active_level() : vsae::level_named(name);
}

std::vector<std::string> supported_level_names() {
    std::vector<std::string> names;
    for (const vsae::CpuLevel level : vsae::supported_levels()) names.emplace_back(vsae::name_of(level));
    return names;
}

struct Layer {
    std::uintptr_t weight;  // float[n_out, n_in]
    std::uintptr_t bias;    // float[n_out]
    int n_in;
    int n_out;
    bool activation;
};

struct PackedLayers {
    std::vector<vsae::PackedLayer> storage;
    std::vector<vsae::DenseLayer> layers;
};

PackedLayers pack(const std::vector<Layer>& layers) {
    PackedLayers packed;
    packed.storage.reserve(layers.size());
    for (const Layer& layer : layers) {
        packed.storage.emplace_back(at<const float>(layer.weight), at<const float>(layer.bias), layer.n_in, layer.n_out,
                                    layer.activation);
        packed.layers.push_back(packed.storage.back().view());
    }
    return packed;
}

struct WideLikelihood {
    int attribute;
    std::uintptr_t triangle;    // float[H, H], upper triangular
    std::uintptr_t projection;  // float[width, H]
};

struct ImportanceImputeArguments {
    std::uintptr_t mean, scale, x, mask, noise, context, row_id;
    std::uintptr_t output_weight, output_bias, log_scale;
    std::uintptr_t imputed, log_evidence, effective_size, n_spent, draws;
    std::vector<Layer> mask_layers, data_layers;
    std::vector<WideLikelihood> wide;
    std::vector<int> attribute_start, attribute_kind;
    long n_rows;
    int n_samples, n_proposals, n_latent, n_draws;
    std::uint64_t seed;
    float negative_slope, visible_weight, tolerance;
};

// Output rows of the categorical columns as one packed layer, and where each attribute's begin.
vsae::PackedLayer pack_logits(const ImportanceImputeArguments& arguments, int n_hidden, std::vector<int>* first_logit) {
    std::vector<float> weight, bias;
    const float* from = at<const float>(arguments.output_weight);
    for (std::size_t a = 0; a < arguments.attribute_kind.size(); ++a) {
        first_logit->push_back(static_cast<int>(bias.size()));
        if (arguments.attribute_kind[a] != vsae::kCategorical) continue;
        const long begin = arguments.attribute_start[a], end = arguments.attribute_start[a + 1];
        weight.insert(weight.end(), from + begin * n_hidden, from + end * n_hidden);
        bias.insert(bias.end(), at<const float>(arguments.output_bias) + begin,
                    at<const float>(arguments.output_bias) + end);
    }
    return {weight.data(), bias.data(), n_hidden, static_cast<int>(bias.size()), false};
}

void importance_impute(const ImportanceImputeArguments& arguments, int n_threads, const std::string& level_name) {
    const vsae::CpuLevel level = level_or_active(level_name);
    const PackedLayers mask_layers = pack(arguments.mask_layers);
    const PackedLayers data_layers = pack(arguments.data_layers);
    const int n_hidden = data_layers.layers.back().n_out;
    std::vector<int> first_logit;
    const vsae::PackedLayer logits = pack_logits(arguments, n_hidden, &first_logit);
    std::vector<int> wide_of(arguments.attribute_kind.size(), -1);
    std::vector<vsae::AlignedBuffer> triangles;
    std::vector<vsae::WideGaussian> wide;
    for (const WideLikelihood& w : arguments.wide) {
        triangles.emplace_back(vsae::triangle_floats(n_hidden));
        vsae::pack_triangle(triangles.back().data(), n_hidden, at<const float>(w.triangle));
        wide_of[static_cast<std::size_t>(w.attribute)] = static_cast<int>(wide.size());
        wide.push_back({w.attribute, triangles.back().data(), at<const float>(w.projection)});
    }

    vsae::ImportanceImputeModel model{};
    model.n_latent = arguments.n_latent;
    model.n_attributes = static_cast<int>(arguments.attribute_kind.size());
    model.n_columns = arguments.attribute_start.back();
    model.n_hidden = n_hidden;
    model.n_mask_layers = static_cast<int>(mask_layers.layers.size());
    model.n_data_layers = static_cast<int>(data_layers.layers.size());
    model.mask_layers = mask_layers.layers.data();
    model.data_layers = data_layers.layers.data();
    model.output_weight = at<const float>(arguments.output_weight);
    model.output_bias = at<const float>(arguments.output_bias);
    model.attribute_start = arguments.attribute_start.data();
    model.attribute_kind = arguments.attribute_kind.data();
    model.log_scale = at<const float>(arguments.log_scale);
    model.logits = logits.view();
    model.first_logit = first_logit.data();
    model.n_wide = static_cast<int>(wide.size());
    model.wide = wide.data();
    model.wide_of = wide_of.data();
    model.negative_slope = arguments.negative_slope;
    model.visible_weight = arguments.visible_weight;

    vsae::ImportanceImputeBatch batch{};
    batch.n_samples = arguments.n_samples;
    batch.n_proposals = arguments.n_proposals;
    batch.mean = at<const float>(arguments.mean);
    batch.scale = at<const float>(arguments.scale);
    batch.x = at<const float>(arguments.x);
    batch.mask = at<const float>(arguments.mask);
    batch.context = at<const float>(arguments.context);
    batch.tolerance = arguments.tolerance;
    batch.n_draws = arguments.n_draws;
    batch.seed = arguments.seed;
    batch.row_id = at<const long long>(arguments.row_id);
    batch.imputed = at<float>(arguments.imputed);
    batch.log_evidence = at<double>(arguments.log_evidence);
    batch.effective_size = at<double>(arguments.effective_size);
    batch.n_spent = at<int>(arguments.n_spent);
    batch.draws = at<float>(arguments.draws);

    vsae::run_interruptibly([&] {
        return vsae::importance_impute(model, batch, at<const float>(arguments.noise), arguments.n_rows, n_threads,
                                       level, vsae::no_signal);
    });
}

}  // namespace

PYBIND11_MODULE(_native, module) {
    module.doc() = "C++ kernels of vsae_fast; called through vsae_fast.ops.";

    py::class_<Layer>(module, "Layer")
        .def(py::init<std::uintptr_t, std::uintptr_t, int, int, bool>(), py::arg("weight"), py::arg("bias"),
             py::arg("n_in"), py::arg("n_out"), py::arg("activation"));

    py::class_<WideLikelihood>(module, "WideLikelihood")
        .def(py::init<int, std::uintptr_t, std::uintptr_t>(), py::arg("attribute"), py::arg("triangle"),
             py::arg("projection"));

    py::class_<ImportanceImputeArguments>(module, "ImportanceImputeArguments")
        .def(py::init<>())
        .def_readwrite("mean", &ImportanceImputeArguments::mean)
        .def_readwrite("scale", &ImportanceImputeArguments::scale)
        .def_readwrite("x", &ImportanceImputeArguments::x)
        .def_readwrite("mask", &ImportanceImputeArguments::mask)
        .def_readwrite("noise", &ImportanceImputeArguments::noise)
        .def_readwrite("context", &ImportanceImputeArguments::context)
        .def_readwrite("row_id", &ImportanceImputeArguments::row_id)
        .def_readwrite("output_weight", &ImportanceImputeArguments::output_weight)
        .def_readwrite("output_bias", &ImportanceImputeArguments::output_bias)
        .def_readwrite("log_scale", &ImportanceImputeArguments::log_scale)
        .def_readwrite("imputed", &ImportanceImputeArguments::imputed)
        .def_readwrite("log_evidence", &ImportanceImputeArguments::log_evidence)
        .def_readwrite("effective_size", &ImportanceImputeArguments::effective_size)
        .def_readwrite("n_spent", &ImportanceImputeArguments::n_spent)
        .def_readwrite("draws", &ImportanceImputeArguments::draws)
        .def_readwrite("mask_layers", &ImportanceImputeArguments::mask_layers)
        .def_readwrite("data_layers", &ImportanceImputeArguments::data_layers)
        .def_readwrite("wide", &ImportanceImputeArguments::wide)
        .def_readwrite("attribute_start", &ImportanceImputeArguments::attribute_start)
        .def_readwrite("attribute_kind", &ImportanceImputeArguments::attribute_kind)
        .def_readwrite("n_rows", &ImportanceImputeArguments::n_rows)
        .def_readwrite("n_samples", &ImportanceImputeArguments::n_samples)
        .def_readwrite("n_proposals", &ImportanceImputeArguments::n_proposals)
        .def_readwrite("n_latent", &ImportanceImputeArguments::n_latent)
        .def_readwrite("n_draws", &ImportanceImputeArguments::n_draws)
        .def_readwrite("seed", &ImportanceImputeArguments::seed)
        .def_readwrite("negative_slope", &ImportanceImputeArguments::negative_slope)
        .def_readwrite("visible_weight", &ImportanceImputeArguments::visible_weight)
        .def_readwrite("tolerance", &ImportanceImputeArguments::tolerance);

    vsae::bind_training(module);
    vsae::bind_gaussian_mixture(module);
    vsae::bind_latent_classes(module);
    vsae::bind_numbers(module);
    vsae::bind_proposals(module);
    vsae::bind_score_curves(module);
    vsae::bind_training_ops(module);

    module.def("importance_impute", &importance_impute, py::arg("arguments"), py::arg("n_threads"),
               py::arg("level") = "");
    module.def("cpu_levels", &supported_level_names, "Instruction sets that this machine can run, slowest first.");
    module.def("cpu_level", [] { return std::string(vsae::name_of(vsae::active_level())); });
    module.def(
        "fma_peak",
        [](int n_threads, double seconds, const std::string& level) {
            const vsae::CpuLevel active = level_or_active(level);
            const py::gil_scoped_release release;
            return vsae::fma_peak(n_threads, seconds, active);
        },
        py::arg("n_threads"), py::arg("seconds") = 0.2, py::arg("level") = "",
        "Measured multiply-add rate in GFLOP/s, all threads together.");
    module.def("round_trip", &vsae::round_trip, py::call_guard<py::gil_scoped_release>(),
               "Seconds that a cache line takes from one processor to another and back; NaN with one processor.");
}
