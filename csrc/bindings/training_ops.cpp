// fill_unobserved, grouped_mlp, elbo and sample_moments one by one; vsae_fast/ops owns the tensors behind the addresses
// and has checked their shapes. An address of 0 is an absent tensor.
#include "bindings/training_ops.h"

#include <pybind11/stl.h>

#include <cmath>
#include <cstdint>
#include <vector>

#include "bindings/addresses.h"
#include "bindings/folded_layer.h"
#include "cpu/cpu_level.h"
#include "cpu/elbo.h"
#include "cpu/fill_unobserved.h"
#include "cpu/grouped_mlp.h"
#include "cpu/padded_rows.h"
#include "cpu/sample_moments.h"

namespace py = pybind11;

namespace vsae {

namespace {

using Address = std::uintptr_t;
using Addresses = std::vector<std::uintptr_t>;

FillUnobserved fill_arguments(const std::vector<int>& attribute_start, long n_rows, Address x, Address mask,
                              Address noise, long noise_step) {
    return {n_rows,
            static_cast<int>(attribute_start.size()) - 1,
            attribute_start.data(),
            at<const float>(x),
            at<const float>(mask),
            at<const float>(noise),
            noise_step};
}

GroupedMlp grouped_arguments(int n_rows, int n_groups, const std::vector<int>& sizes, bool training, float slope,
                             Address x, Address mask, const Addresses& weight, const Addresses& bias,
                             const Addresses& gamma, const Addresses& beta, const Addresses& running_mean,
                             const Addresses& running_var) {
    return {n_rows,
            n_groups,
            sizes,
            training,
            slope,
            at<const float>(x),
            at<const float>(mask),
            pointers<const float>(weight),
            pointers<const float>(bias),
            pointers<const float>(gamma),
            pointers<const float>(beta),
            pointers<float>(running_mean),
            pointers<float>(running_var)};
}

struct ElboArguments {
    int n_samples, n_rows, n_latent;
    std::vector<int> attribute_start, attribute_kind;
    Address output, log_scale, mask_logits, target, target_variance, mask, attribute_weight, mean, log_variance, noise;

    Elbo view() const {
        return {n_samples,
                n_rows,
                n_latent,
                attribute_start,
                attribute_kind,
                at<const float>(output),
                at<const float>(log_scale),
                at<const float>(mask_logits),
                at<const float>(target),
                at<const float>(target_variance),
                at<const float>(mask),
                at<const float>(attribute_weight),
                at<const float>(mean),
                at<const float>(log_variance),
                at<const float>(noise)};
    }
};

}  // namespace

void bind_training_ops(py::module_& module) {
    module.def(
        "fill_unobserved",
        [](const std::vector<int>& attribute_start, long n_rows, Address x, Address mask, Address noise,
           long noise_step, Address filled) {
            const py::gil_scoped_release release;
            fill_unobserved(fill_arguments(attribute_start, n_rows, x, mask, noise, noise_step), at<float>(filled));
        },
        py::arg("attribute_start"), py::arg("n_rows"), py::arg("x"), py::arg("mask"), py::arg("noise"),
        py::arg("noise_step"), py::arg("filled"));
    module.def(
        "fill_unobserved_backward",
        [](const std::vector<int>& attribute_start, long n_rows, Address mask, Address gradient, Address x_gradient) {
            const py::gil_scoped_release release;
            fill_unobserved_backward(fill_arguments(attribute_start, n_rows, 0, mask, 0, 0), at<const float>(gradient),
                                     at<float>(x_gradient));
        },
        py::arg("attribute_start"), py::arg("n_rows"), py::arg("mask"), py::arg("gradient"), py::arg("x_gradient"));

    module.def("grouped_mlp_saved_floats", &grouped_mlp_saved_floats, py::arg("n_rows"), py::arg("n_groups"),
               py::arg("sizes"));
    module.def(
        "grouped_mlp",
        [](int n_rows, int n_groups, const std::vector<int>& sizes, bool training, float slope, Address x, Address mask,
           const Addresses& weight, const Addresses& bias, const Addresses& gamma, const Addresses& beta,
           const Addresses& running_mean, const Addresses& running_var, Address out, Address saved, int n_threads) {
            const GroupedMlp op = grouped_arguments(n_rows, n_groups, sizes, training, slope, x, mask, weight, bias,
                                                    gamma, beta, running_mean, running_var);
            const CpuLevel level = active_level();
            const py::gil_scoped_release release;
            grouped_mlp(op, at<float>(out), at<float>(saved), n_threads, level);
        },
        py::arg("n_rows"), py::arg("n_groups"), py::arg("sizes"), py::arg("training"), py::arg("slope"), py::arg("x"),
        py::arg("mask"), py::arg("weight"), py::arg("bias"), py::arg("gamma"), py::arg("beta"), py::arg("running_mean"),
        py::arg("running_var"), py::arg("out"), py::arg("saved"), py::arg("n_threads"));
    module.def(
        "grouped_mlp_backward",
        [](int n_rows, int n_groups, const std::vector<int>& sizes, bool training, float slope, Address x, Address mask,
           const Addresses& weight, const Addresses& bias, const Addresses& gamma, const Addresses& beta,
           Address out_gradient, Address saved, Address x_gradient, const Addresses& weight_gradient,
           const Addresses& bias_gradient, const Addresses& gamma_gradient, const Addresses& beta_gradient,
           int n_threads) {
            const GroupedMlp op =
                grouped_arguments(n_rows, n_groups, sizes, training, slope, x, mask, weight, bias, gamma, beta, {}, {});
            const GroupedMlpGradients gradients = {at<float>(x_gradient), pointers<float>(weight_gradient),
                                                   pointers<float>(bias_gradient), pointers<float>(gamma_gradient),
                                                   pointers<float>(beta_gradient)};
            const CpuLevel level = active_level();
            const py::gil_scoped_release release;
            grouped_mlp_backward(op, at<const float>(out_gradient), at<float>(saved), gradients, n_threads, level);
        },
        py::arg("n_rows"), py::arg("n_groups"), py::arg("sizes"), py::arg("training"), py::arg("slope"), py::arg("x"),
        py::arg("mask"), py::arg("weight"), py::arg("bias"), py::arg("gamma"), py::arg("beta"), py::arg("out_gradient"),
        py::arg("saved"), py::arg("x_gradient"), py::arg("weight_gradient"), py::arg("bias_gradient"),
        py::arg("gamma_gradient"), py::arg("beta_gradient"), py::arg("n_threads"));

    py::class_<ElboArguments>(module, "ElboArguments")
        .def(py::init([] { return new ElboArguments{}; }))
        .def_readwrite("n_samples", &ElboArguments::n_samples)
        .def_readwrite("n_rows", &ElboArguments::n_rows)
        .def_readwrite("n_latent", &ElboArguments::n_latent)
        .def_readwrite("attribute_start", &ElboArguments::attribute_start)
        .def_readwrite("attribute_kind", &ElboArguments::attribute_kind)
        .def_readwrite("output", &ElboArguments::output)
        .def_readwrite("log_scale", &ElboArguments::log_scale)
        .def_readwrite("mask_logits", &ElboArguments::mask_logits)
        .def_readwrite("target", &ElboArguments::target)
        .def_readwrite("target_variance", &ElboArguments::target_variance)
        .def_readwrite("mask", &ElboArguments::mask)
        .def_readwrite("attribute_weight", &ElboArguments::attribute_weight)
        .def_readwrite("mean", &ElboArguments::mean)
        .def_readwrite("log_variance", &ElboArguments::log_variance)
        .def_readwrite("noise", &ElboArguments::noise);
    module.def(
        "elbo",
        [](const ElboArguments& arguments, Address bound, int n_threads) {
            const CpuLevel level = active_level();
            const py::gil_scoped_release release;
            elbo(arguments.view(), at<float>(bound), n_threads, level);
        },
        py::arg("arguments"), py::arg("bound"), py::arg("n_threads"));
    module.def(
        "elbo_backward",
        [](const ElboArguments& arguments, Address bound_gradient, Address output, Address log_scale,
           Address mask_logits, Address mean, Address log_variance, int n_threads) {
            const CpuLevel level = active_level();
            const py::gil_scoped_release release;
            elbo_backward(arguments.view(), at<const float>(bound_gradient),
                          {at<float>(output), at<float>(log_scale), at<float>(mask_logits), at<float>(mean),
                           at<float>(log_variance)},
                          n_threads, level);
        },
        py::arg("arguments"), py::arg("bound_gradient"), py::arg("output"), py::arg("log_scale"),
        py::arg("mask_logits"), py::arg("mean"), py::arg("log_variance"), py::arg("n_threads"));

    module.def(
        "sample_moments",
        [](const std::vector<int>& attribute_start, const std::vector<int>& attribute_kind, int n_rows, int n_latent,
           Address mean, Address scale, Address context, const std::vector<FoldedLayer>& mask_layers,
           const std::vector<FoldedLayer>& data_layers, Address log_scale, float slope, int n_samples,
           std::uint64_t seed, std::uint64_t number, Address moment, Address variance, int n_threads) {
            const TrainingKernels& kernels = training_kernels_for(active_level());
            const py::gil_scoped_release release;
            const int n_columns = attribute_start.back();
            const FoldedMlp mask_decoder = folded(kernels, mask_layers, slope);
            const FoldedMlp data_decoder = folded(kernels, data_layers, slope);
            const PaddedRows means(at<const float>(mean), n_rows, n_latent, n_latent);
            PaddedRows log_variance(at<const float>(scale), n_rows, n_latent, n_latent);
            for (long r = 0; r < n_rows; ++r)
                for (int l = 0; l < n_latent; ++l) {
                    float& value = log_variance.data()[r * log_variance.stride() + l];
                    value = 2.0f * std::log(value);
                }
            const int n_context = data_layers[0].n_out;
            PaddedRows contexts(context ? n_rows : 0, n_context);
            if (context) contexts.read(at<const float>(context), n_context);
            const Matrix of_rows{contexts.data(), contexts.stride()};
            const PaddedRows log_scales(at<const float>(log_scale), 1, n_columns, n_columns);
            PaddedRows moments(n_rows, n_columns), variances(n_rows, n_columns);
            SharedWork work(kernels);
            work.set_threads(n_threads);
            Draws draws{seed, number};
            MomentSampler sampler(kernels, {attribute_start, attribute_kind, n_latent}, data_decoder.n_hidden(),
                                  n_samples, n_rows);
            sampler.prepare(
                mask_decoder, data_decoder,
                {n_rows, means.data(), log_variance.data(), context ? &of_rows : nullptr, log_scales.data()}, draws,
                work.n_threads());
            work.tasks(sampler.n_tasks(), [&](int task, int thread) { sampler.run_task(task, thread); });
            sampler.finish(work, moments.data(), variances.data());
            moments.write(at<float>(moment), n_columns);
            variances.write(at<float>(variance), n_columns);
            return draws.next;
        },
        py::arg("attribute_start"), py::arg("attribute_kind"), py::arg("n_rows"), py::arg("n_latent"), py::arg("mean"),
        py::arg("scale"), py::arg("context"), py::arg("mask_layers"), py::arg("data_layers"), py::arg("log_scale"),
        py::arg("slope"), py::arg("n_samples"), py::arg("seed"), py::arg("number"), py::arg("moment"),
        py::arg("variance"), py::arg("n_threads"), "Returns the number of the next stream.");
}

}  // namespace vsae
