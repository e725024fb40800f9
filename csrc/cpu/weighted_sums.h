// Sums over a row's samples: of their weights, of the last hidden vector and of class probabilities by weight.
//
// Weights count relative to a reference log-weight that moves only when a block exceeds it by kSlack, so that the sums
// are rescaled a few times a row. Each lane of half a block has a sum of its own, or each of a block that one vector
// holds: four lanes of both halves are a segment's.
// Unobserved numbers are linear in the last hidden vector, so that the output layer meets the sums, not the samples.
#pragma once

#include <algorithm>

#include "cpu/dense.h"
#include "cpu/impute_row.h"
#include "cpu/impute_scratch.h"

namespace vsae {
namespace VSAE_ISA {

inline constexpr float kSlack = 8.0f;
inline constexpr float kLowest = -1e38f;  // stands in for a log-weight that is not finite
inline constexpr int kSumVectors = kHalfVectors;
inline constexpr int kColumnsAtOnce = kSumVectors < 8 ? 8 / kSumVectors : 1;  // to hide the latency of a multiply-add

class WeightedSums {
   public:
    WeightedSums(const ImportanceImputeModel& model, const ImputeScratch& scratch) : model_(model), scratch_(scratch) {}

    void clear() {
        reference_ = kLowest;
        empty_ = true;
        for (int v = 0; v < kSumVectors; ++v) weight_[v] = square_[v] = Vec{};
        std::fill_n(scratch_.hidden_sum, static_cast<long>(model_.n_hidden) * kSumLanes, 0.0f);
        std::fill_n(scratch_.class_sum, static_cast<long>(model_.logits.n_out) * kSumLanes, 0.0f);
    }

    float reference() const { return reference_; }
    float* class_sum(int logit) const { return scratch_.class_sum + static_cast<long>(logit) * kSumLanes; }

    // Moves the reference where the largest log-weight of a block asks for it.
    void raise_reference(float top) {
        if (top <= reference_ + kSlack) return;
        const Vec factor = exp(splat(reference_ - top));
        reference_ = top;
        if (empty_) return;
        for (int v = 0; v < kSumVectors; ++v) {
            weight_[v] *= factor;
            square_[v] *= factor * factor;
        }
        scale(scratch_.hidden_sum, model_.n_hidden, factor);
        scale(scratch_.class_sum, model_.logits.n_out, factor);
    }

    // Adds the first kUsed vectors of a block with its last hidden vectors [H, S]; the probabilities are the
    // categorical likelihood's to add.
    template <int kUsed>
    void add(const Vec* weight, const float* hidden) {
        empty_ = false;
        for (int v = 0; v < kUsed; ++v) {
            weight_[v % kSumVectors] += weight[v];
            square_[v % kSumVectors] += weight[v] * weight[v];
        }
        for (int j = 0; j < model_.n_hidden; ++j)
            add_block<kUsed>(weight, hidden + static_cast<long>(j) * kBlock, scratch_.hidden_sum + j * kSumLanes);
    }

    // Adds weighted values of a block's samples lane by lane.
    template <int kUsed>
    static void add_block(const Vec* weight, const float* values, float* sums) {
        for (int v = 0; v < kSumVectors && v < kUsed; ++v) {
            Vec sum = load(sums + v * kLanes);
            for (int w = v; w < kUsed; w += kSumVectors) sum += weight[w] * load(values + w * kLanes);
            store(sums + v * kLanes, sum);
        }
    }

    // Of one segment of every block.
    double weight(int segment) const { return of_segment(lanes_of(weight_), segment); }

    double total_weight() const { return total(weight_); }
    double effective_size() const {
        const double weight = total(weight_);
        return weight * weight / total(square_);
    }

    // Weighted sums of the row's unobserved columns: visit(column, sums of each segment), the numerical ones first.
    template <class Visit>
    void visit_unobserved(const ImputeRow& row, Visit visit) const {
        int columns[kColumnsAtOnce], n = 0;
        for (int a = 0; a < model_.n_attributes; ++a) {
            if (!row.numerical(a)) continue;
            const bool unobserved = !row.observed(a);
            if (row.width(a) > 1 && !unobserved) continue;
            for (int c = row.start(a); c < row.end(a); ++c) {
                columns[n] = c;
                n += unobserved;  // no branch: masks are not to be predicted
                if (n == kColumnsAtOnce) {
                    visit_numbers(row, columns, n, visit);
                    n = 0;
                }
            }
        }
        if (n) visit_numbers(row, columns, n, visit);
        for (int a = 0; a < model_.n_attributes; ++a) {
            if (row.observed(a) || row.numerical(a)) continue;
            for (int j = 0; j < row.width(a); ++j)
                visit_sums(row.start(a) + j, class_sum(model_.first_logit[a] + j), visit);
        }
    }

   private:
    const ImportanceImputeModel& model_;
    const ImputeScratch& scratch_;
    float reference_ = kLowest;
    bool empty_ = true;
    Vec weight_[kSumVectors]{};
    Vec square_[kSumVectors]{};

    static void scale(float* sums, long n, Vec factor) {
        for (long i = 0; i < n * kSumLanes; i += kLanes) store(sums + i, factor * load(sums + i));
    }

    static const float* lanes_of(const Vec* sums) { return reinterpret_cast<const float*>(sums); }

    // In pairs: lanes that are added one after the other take as long as a short product.
    static double of_segment(const float* lanes, int segment) {
        static_assert(kSegmentLanes == 4);
        double sum = 0;
        for (int half = 0; half < kSumLanes; half += kBlockLanes) {
            const float* own = lanes + half + segment * kSegmentLanes;
            sum += (static_cast<double>(own[0]) + own[1]) + (static_cast<double>(own[2]) + own[3]);
        }
        return sum;
    }

    static double total(const Vec* sums) {
        double sum = 0;
        for (int b = 0; b < kSegmentsPerBlock; ++b) sum += of_segment(lanes_of(sums), b);
        return sum;
    }

    template <class Visit>
    static void visit_sums(int column, const float* lanes, Visit& visit) {
        double sum[kSegmentsPerBlock];
        for (int b = 0; b < kSegmentsPerBlock; ++b) sum[b] = of_segment(lanes, b);
        visit(column, sum);
    }

    template <class Visit>
    void visit_numbers(const ImputeRow& row, const int* columns, int n, Visit& visit) const {
        const float* weight[kColumnsAtOnce];
        for (int i = 0; i < kColumnsAtOnce; ++i) weight[i] = row.output_row(columns[i < n ? i : 0]);
        Vec sum[kColumnsAtOnce][kSumVectors];
        products_of_rows<kSumLanes>(weight, model_.n_hidden, scratch_.hidden_sum, sum);
        for (int i = 0; i < n; ++i) {
            alignas(64) float lanes[kSumLanes];
            for (int v = 0; v < kSumVectors; ++v)
                store(lanes + v * kLanes, sum[i][v] + model_.output_bias[columns[i]] * weight_[v]);
            visit_sums(columns[i], lanes, visit);
        }
    }
};

}  // namespace VSAE_ISA
}  // namespace vsae
