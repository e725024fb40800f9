// Sums of E[x | z] over samples of z, a row in every lane, and moments of hidden vectors.
//
// Both decoders begin with a linear layer: W z = W mean + W (scale e) has a first term of the row, and for the four
// signs of a quartet the second is that of two products, each over half of the latents.
#pragma once

#include <algorithm>

#include "core/training_step.h"
#include "cpu/class_logits.h"
#include "cpu/dense.h"

namespace vsae {
namespace VSAE_ISA {

static_assert(kRowsPerGroup == kBlockLanes);

// [n_rows, n] to [n, 16], zeros in the lanes past the rows.
static void rows_to_lanes(const float* from, long stride, int n_rows, int n, float* to) {
    for (int c = 0; c < n; ++c, to += kRowsPerGroup) {
        for (int r = 0; r < n_rows; ++r) to[r] = from[r * stride + c];
        for (int r = n_rows; r < kRowsPerGroup; ++r) to[r] = 0.0f;
    }
}

static void centre_rows(const SampledRows& s) {
    rows_to_lanes(s.log_variance, s.latent_stride, s.n_rows, s.n_latent, s.scale);
    for (int i = 0; i < s.n_latent * kRowsPerGroup; i += kLanes) store(s.scale + i, exp(0.5f * load(s.scale + i)));
    rows_to_lanes(s.mean, s.latent_stride, s.n_rows, s.n_latent, s.latents);
    const auto multiply = [&](const DenseLayer& layer, float* to) {
        dense_tiles<kRowsPerGroup>(layer.weight, floats_per_tile(layer), s.n_latent, layer.n_out, s.latents, to,
                                   Active{layer.bias, 1.0f});
    };
    multiply(s.mask_layer, s.mask_centre);
    multiply(s.data_layer, s.data_centre);
    if (!s.context) return;
    for (int c = 0; c < s.data_layer.n_out; ++c)
        for (int r = 0; r < s.n_rows; ++r)
            s.data_centre[c * kRowsPerGroup + r] += s.context[static_cast<long>(r) * s.context_stride + c];
}

class RowSampler {
   public:
    explicit RowSampler(const SampleMoments& s) : s_(s) {}

    void run() const {
        if (s_.output) {
            std::fill_n(s_.total, s_.output->n_out * kRowsPerGroup, 0.0f);
            std::fill_n(s_.square, s_.output->n_out * kRowsPerGroup, 0.0f);
        }
        for (int first = 0; first < s_.n_samples; first += kQuartet) {
            draw(s_.noise + first / kQuartet * s_.noise_step);
            for (int pair = 0; pair < 2; ++pair) {
                const int sample = first + 2 * pair, count = std::min(s_.n_samples - sample, 2);
                if (count > 0) add(decode(pair), sample, count);
            }
        }
    }

   private:
    const SampleMoments& s_;

    void draw(const float* noise) const {
        for (int i = 0; i < s_.n_latent * kRowsPerGroup; i += kLanes)
            store(s_.deviation + i, load(s_.scale + i) * load(noise + i));
        multiply(s_.mask_layers[0], s_.mask_product);
        multiply(s_.data_layers[0], s_.data_product);
    }

    // Products of the deviations, then of those with the second half negated.
    void multiply(const DenseLayer& layer, float* product) const {
        const int half = s_.n_latent / 2;
        const long floats = static_cast<long>(padded(layer.n_out)) * kRowsPerGroup;
        const auto part = [&](int begin, int end, float* to) {
            dense_tiles<kRowsPerGroup>(layer.weight + static_cast<long>(begin) * kTileRows, floats_per_tile(layer),
                                       end - begin, layer.n_out, s_.deviation + begin * kRowsPerGroup, to, Plain{});
        };
        part(0, half, product);
        part(half, s_.n_latent, product + floats);
        for (long i = 0; i < floats; i += kLanes) {
            const Vec one = load(product + i), other = load(product + floats + i);
            store(product + i, one + other);
            store(product + floats + i, one - other);
        }
    }

    MirroredRows first_layer(const DenseLayer& layer, const float* centre, const float* product, int pair) const {
        const long floats = static_cast<long>(padded(layer.n_out)) * kRowsPerGroup;
        return {centre, layer.activation ? s_.slope : 1.0f, product + pair * floats};
    }

    // The data decoder's last hidden vectors of a sample and its image, [H, 32].
    const float* decode(int pair) const {
        const DenseLayer &mask = s_.mask_layers[0], &data = s_.data_layers[0];
        dense_tiles(mask.weight, floats_per_tile(mask), 0, mask.n_out, nullptr, s_.even,
                    first_layer(mask, s_.mask_centre, s_.mask_product, pair));
        const float* logits = further(s_.mask_layers, s_.n_mask_layers);
        const int n_logits = s_.mask_layers[s_.n_mask_layers - 1].n_out;
        for (int i = 0; i < n_logits * kBlock; i += kLanes) store(s_.probability + i, sigmoid(load(logits + i)));
        dense_tiles(data.weight + static_cast<long>(s_.n_latent) * kTileRows, floats_per_tile(data), n_logits,
                    data.n_out, s_.probability, s_.even, first_layer(data, s_.data_centre, s_.data_product, pair));
        return further(s_.data_layers, s_.n_data_layers);
    }

    const float* further(const DenseLayer* layers, int n_layers) const {
        return further_layers(layers, n_layers, s_.even, s_.odd, s_.slope);
    }

    void add(const float* hidden, int sample, int count) const {
        if (s_.hidden)
            for (int k = 0; k < count; ++k) keep(hidden + k * kRowsPerGroup, sample + k);
        if (!s_.output) return;
        float* output = hidden == s_.even ? s_.odd : s_.even;
        dense(*s_.output, s_.output->bias, hidden, output, s_.slope);
        for (int a = 0; a < s_.n_attributes; ++a) {
            const int begin = s_.attribute_start[a], width = s_.attribute_start[a + 1] - begin;
            float *of_attribute = output + static_cast<long>(begin) * kBlock, *total = s_.total + begin * kRowsPerGroup;
            if (s_.attribute_kind[a] == kNumerical)
                add_values(of_attribute, width, count, total, s_.square + begin * kRowsPerGroup);
            else
                add_probabilities(of_attribute, width, count, total);
        }
    }

    void keep(const float* hidden, int sample) const {
        const int n_hidden = s_.data_layers[s_.n_data_layers - 1].n_out;
        float* to = s_.hidden + sample * s_.hidden_step;
        for (int r = 0; r < s_.n_rows; ++r, to += s_.hidden_stride)
            for (int h = 0; h < n_hidden; ++h) to[h] = hidden[h * kBlock + r];
    }

    static void add_values(const float* output, int width, int count, float* total, float* square) {
        for (int c = 0; c < width; ++c)
            for (int v = 0; v < kHalfVectors; ++v) {
                const float* value = output + c * kBlock + v * kLanes;
                const int at = c * kRowsPerGroup + v * kLanes;
                const Vec one = load(value), image = count > 1 ? load(value + kBlockLanes) : Vec{};
                store(total + at, load(total + at) + (one + image));
                store(square + at, load(square + at) + (one * one + image * image));
            }
    }

    static void add_probabilities(float* logits, int width, int count, float* total) {
        for (int v = 0; v < count * kHalfVectors; ++v) {
            float* own = logits + v * kLanes;
            const Vec inverse = 1.0f / exponentiate(own, width);
            for (int c = 0; c < width; ++c) {
                float* to = total + c * kRowsPerGroup + v % kHalfVectors * kLanes;
                store(to, load(to) + load(own + c * kBlock) * inverse);
            }
        }
    }
};

static void sample_moments(const SampleMoments& s) { RowSampler(s).run(); }

// Mean over the samples of a row, and their deviations from it.
static void centre(const CentredRow& r) {
    for (int c = 0; c < whole_lines(r.n_columns); c += kLanes) {
        Vec sum{};
        for (long s = 0; s < r.n_samples; ++s) sum += load(r.h + s * r.step + c);
        const Vec mean = sum / static_cast<float>(r.n_samples);
        store(r.mean + c, mean);
        for (long s = 0; s < r.n_samples; ++s) store(r.centred + s * r.stride + c, load(r.h + s * r.step + c) - mean);
    }
}

// Sum of products of two runs of whole lines.
static float dot(const float* x, const float* y, long floats) {
    constexpr int kSums = 4;
    Vec sum[kSums] = {};
    for (long i = 0; i < floats; i += kLine)
        for (int v = 0; v < kLine / kLanes; ++v) sum[v % kSums] += load(x + i + v * kLanes) * load(y + i + v * kLanes);
    return horizontal_sum((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

}  // namespace VSAE_ISA
}  // namespace vsae
