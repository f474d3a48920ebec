import pytest
from lxml import etree

from pathasst.core.jats_text import text_of

MML = 'xmlns:m="http://www.w3.org/1998/Math/MathML"'
HALF = "<m:math><m:mfrac><m:mn>1</m:mn><m:mn>2</m:mn></m:mfrac></m:math>"


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("10<sup>3</sup> cells/mm<sup>2</sup>", "10³ cells/mm²"),
        ("10<sup>−6</sup> M, 10<sup>-3.5</sup>, 10<sup>3, 4</sup>", "10⁻⁶ M, 10^-3.5, 10^(3, 4)"),
        ("the 4<sup>th</sup>, p53<sup>mut</sup>, T<sub>max</sub>", "the 4th, p53mut, Tmax"),
        (f"R<sup>2</sup> = {HALF}", "R² = ½"),
        ("<m:math>\n <m:mrow>\n <m:mi>a</m:mi>\n <m:mo>=</m:mo>\n <m:mn>3</m:mn></m:mrow></m:math>", "a = 3"),
        (
            "<m:math><m:mfrac><m:mrow><m:mi>a</m:mi><m:mo>+</m:mo><m:mi>b</m:mi></m:mrow><m:mn>20</m:mn></m:mfrac></m:math>",
            "(a+b)/20",
        ),
        ("<m:math><m:msqrt><m:mrow><m:mi>x</m:mi><m:mo>+</m:mo><m:mn>1</m:mn></m:mrow></m:msqrt></m:math>", "√(x+1)"),
        ("<m:math><m:msup><m:mi>e</m:mi><m:mrow><m:mo>-</m:mo><m:mi>k</m:mi></m:mrow></m:msup></m:math>", "e^(-k)"),
        ("<m:math><m:mover><m:mi>x</m:mi><m:mo>¯</m:mo></m:mover></m:math>", "x̄"),
        (f"<m:math><m:semantics><m:mi>x</m:mi><m:annotation>\\bar x</m:annotation></m:semantics></m:math>{HALF}", "x½"),
        (r"<tex-math>\begin{document}$$10^{3} \times \frac{1}{2}$$\end{document}</tex-math>", "10³ × ½"),
        (f"<alternatives>{HALF}<tex-math>0.5</tex-math></alternatives>", "½"),
        ("<title>Glands</title><p>One</p><p>Two.</p><p>Three</p>", "Glands. One. Two. Three"),
        ("<p>(×40)</p><p>Next</p><p>Why?</p><p>So:</p><p>end</p>", "(×40). Next. Why? So: end"),
        ("<p>As in <list><list-item><p>liver</p></list-item><list-item><p>lung</p></list-item></list></p>", "As in liver. lung"),
        ("<def-list><def-item><term>A</term><def><p>artery</p></def></def-item></def-list>", "A: artery"),
    ],
)
def test_markup_becomes_the_text_that_a_reader_sees(markup: str, text: str) -> None:
    assert text_of(etree.fromstring(f"<r {MML}>{markup}</r>")) == text
