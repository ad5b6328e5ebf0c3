// A click on a figure shows the picture alone, at its own size.
document.addEventListener("DOMContentLoaded", () => {
  for (const picture of document.querySelectorAll(".bd-article figure img, .bd-article .cell_output img")) {
    if (picture.closest("a")) continue;
    const link = document.createElement("a");
    link.href = picture.src;
    link.title = "Enlarge";
    picture.replaceWith(link);
    link.append(picture);
  }
});
